//! Images that are already on the device: read from and written to buffers and textures without the host.

use super::device::Context;
use super::pipeline::Precision;
use super::planes;
use super::submit::{self, Launch};
use crate::error::{Error, Result};
use crate::ops::dispatch::{Shader, WORKGROUP, params};
use crate::ops::{Dispatch, Place, to_u32};

/// An image on the device.
#[derive(Clone, Copy, Debug)]
pub enum Surface<'a> {
    /// f32, planar `[channels, height, width]`, 0 to 1, from the buffer's start; usage `STORAGE`.
    Buffer {
        /// The buffer.
        buffer: &'a wgpu::Buffer,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// A texture with float samples; the first mip level and layer. As an input it needs the usage `TEXTURE_BINDING`, as an
    /// output the format `Rgba8Unorm` and the usage `STORAGE_BINDING`.
    Texture(&'a wgpu::Texture),
}

impl Surface<'_> {
    /// Height and width.
    pub fn size(&self) -> [usize; 2] {
        match self {
            Self::Buffer { height, width, .. } => [*height, *width],
            Self::Texture(texture) => [texture.height() as usize, texture.width() as usize],
        }
    }

    fn check(&self, what: &str, channels: usize, output: bool) -> Result<()> {
        let problem = match self {
            Self::Buffer { buffer, height, width } => {
                let bytes = [4, channels, *height, *width].iter().try_fold(1usize, |all, &n| all.checked_mul(n));
                if !buffer.usage().contains(wgpu::BufferUsages::STORAGE) {
                    "has not the usage STORAGE"
                } else if bytes.is_none_or(|bytes| bytes as u64 > buffer.size()) {
                    "is too small for its size"
                } else {
                    return Ok(());
                }
            }
            Self::Texture(texture) if output => {
                if !texture.usage().contains(wgpu::TextureUsages::STORAGE_BINDING) {
                    "has not the usage STORAGE_BINDING"
                } else if texture.format() != wgpu::TextureFormat::Rgba8Unorm {
                    "is not of the format Rgba8Unorm"
                } else {
                    return Ok(());
                }
            }
            Self::Texture(texture) if !texture.usage().contains(wgpu::TextureUsages::TEXTURE_BINDING) => {
                "has not the usage TEXTURE_BINDING"
            }
            Self::Texture(_) => return Ok(()),
        };
        Err(Error::Options(format!("the {what} image {problem}")))
    }
}

/// Where a run on the device reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct Transfer<'a> {
    /// The picture.
    pub input: Surface<'a>,
    /// Where the result goes; of the same kind as the input.
    pub output: Surface<'a>,
    /// Enlargement, the same in both directions.
    pub factor: usize,
    /// Channels of the generator's input and output: 1 or 3.
    pub channels: usize,
    /// Values of the generator for 0 and for 1.
    pub black_white: [f32; 2],
    /// Share of the generator's result.
    pub strength: f32,
}

/// One tile of a [`Transfer`]: what it reads is the plan's input place; this is what it writes, in output pixels.
#[derive(Clone, Copy, Debug)]
pub struct Core {
    /// First row and column in the whole output.
    pub origin: [usize; 2],
    /// First row and column in the tile's result.
    pub skip: [usize; 2],
    /// Height and width.
    pub size: [usize; 2],
}

impl Transfer<'_> {
    /// Checks surfaces, sizes and strength.
    ///
    /// # Errors
    /// [`Error::Options`] saying what does not fit.
    pub fn check(&self) -> Result<()> {
        self.input.check("input", self.channels, false)?;
        self.output.check("output", self.channels, true)?;
        let expected = self.input.size().map(|size| size.checked_mul(self.factor));
        if expected != self.output.size().map(Some) {
            return Err(Error::Options(format!(
                "the output image is {:?}, {} times {:?} is needed",
                self.output.size(),
                self.factor,
                self.input.size()
            )));
        }
        match (self.input, self.output) {
            (Surface::Buffer { buffer: from, .. }, Surface::Buffer { buffer: to, .. }) => {
                if from == to {
                    return Err(Error::Options(
                        "input and output are the same buffer: tiles read what others write".into(),
                    ));
                }
                if self.factor != 1 && self.strength < 1.0 {
                    return Err(Error::Options("an enlarged buffer cannot be blended: use strength 1".into()));
                }
                Ok(())
            }
            (Surface::Texture(from), Surface::Texture(to)) if from != to => Ok(()),
            (Surface::Texture(_), Surface::Texture(_)) => {
                Err(Error::Options("input and output are the same texture: tiles read what others write".into()))
            }
            _ => Err(Error::Options("input and output must both be buffers or both be textures".into())),
        }
    }
}

params! {
    struct ImportBuffer {
        src_width: u32, src_height: u32, top: u32, left: u32, width: u32, height: u32, channels: u32,
        gain: f32, offset: f32,
    }
}
params! {
    struct ExportBuffer {
        src_width: u32, skip_top: u32, skip_left: u32, width: u32, height: u32, channels: u32,
        dst_width: u32, dst_height: u32, top: u32, left: u32,
        gain: f32, offset: f32, strength: f32,
    }
}
params! {
    struct ImportTexture { top: u32, left: u32, width: u32, height: u32, channels: u32, gain: f32, offset: f32 }
}
params! {
    struct ExportTexture {
        src_width: u32, skip_top: u32, skip_left: u32, width: u32, height: u32, channels: u32,
        top: u32, left: u32, factor: u32,
        gain: f32, offset: f32, strength: f32,
    }
}

/// The kernels that move images in and out of the storage layout.
pub const SHADERS: &[&Shader] =
    &[&IMPORT_BUFFER, &EXPORT_BUFFER, &IMPORT_TEXTURE, &EXPORT_TEXTURE, &planes::IMPORT, &planes::EXPORT];

static IMPORT_BUFFER: Shader = Shader {
    name: "import_buffer",
    source: include_str!("../../shaders/import_buffer.wgsl"),
    library: &[],
    params: ImportBuffer::FIELDS,
};
static EXPORT_BUFFER: Shader = Shader {
    name: "export_buffer",
    source: include_str!("../../shaders/export_buffer.wgsl"),
    library: &[],
    params: ExportBuffer::FIELDS,
};
static IMPORT_TEXTURE: Shader = Shader {
    name: "import_texture",
    source: include_str!("../../shaders/import_texture.wgsl"),
    library: &[],
    params: ImportTexture::FIELDS,
};
static EXPORT_TEXTURE: Shader = Shader {
    name: "export_texture",
    source: include_str!("../../shaders/export_texture.wgsl"),
    library: &[],
    params: ExportTexture::FIELDS,
};

/// Uniform memory for the parameters of one import and one export, written anew for every tile: the queue keeps the order
/// of writes and runs.
pub(super) struct Parameters(wgpu::Buffer);

/// Apart as far as any device asks of uniform bindings.
const PARAMETERS_STEP: u64 = 256;

impl Parameters {
    pub(super) fn new(context: &Context) -> Self {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        Self(context.create_buffer("parameters of a transfer", 2 * PARAMETERS_STEP, usage))
    }

    fn import(&self) -> Uniform<'_> {
        Uniform { buffer: &self.0, offset: 0 }
    }

    fn export(&self) -> Uniform<'_> {
        Uniform { buffer: &self.0, offset: PARAMETERS_STEP }
    }
}

/// Where the parameters of a launch go.
struct Uniform<'a> {
    buffer: &'a wgpu::Buffer,
    offset: u64,
}

/// The launch that fills the storage `slot` with the tile at `place`.
pub(super) fn import(
    context: &Context,
    precision: Precision,
    parameters: &Parameters,
    transfer: &Transfer<'_>,
    place: Place,
    slot: wgpu::BindingResource<'_>,
) -> Result<Launch> {
    let [black, white] = transfer.black_white;
    let (gain, offset) = (white - black, black);
    let [top, left] = [to_u32(place.origin[0])?, to_u32(place.origin[1])?];
    let (width, height) = (to_u32(place.shape.width)?, to_u32(place.shape.height)?);
    let channels = to_u32(transfer.channels)?;
    let workgroups = [width.div_ceil(WORKGROUP), height.div_ceil(WORKGROUP), channels.div_ceil(4)];
    match transfer.input {
        Surface::Buffer { buffer, height: src_height, width: src_width } => {
            let (src_width, src_height) = (to_u32(src_width)?, to_u32(src_height)?);
            let params = ImportBuffer { src_width, src_height, top, left, width, height, channels, gain, offset };
            let resources = vec![buffer.as_entire_binding(), slot];
            let dispatch = dispatch(&IMPORT_BUFFER, &[], params.bytes(), workgroups);
            launch(context, precision, parameters.import(), dispatch, resources)
        }
        Surface::Texture(texture) => {
            let view = texture.create_view(&view_descriptor());
            let params = ImportTexture { top, left, width, height, channels, gain, offset };
            let resources = vec![wgpu::BindingResource::TextureView(&view), slot];
            let dispatch = dispatch(&IMPORT_TEXTURE, &[], params.bytes(), workgroups);
            launch(context, precision, parameters.import(), dispatch, resources)
        }
    }
}

/// The launch that writes the core of the tile's result in the storage `slot`, `src_width` pixels wide.
pub(super) fn export(
    context: &Context,
    precision: Precision,
    parameters: &Parameters,
    transfer: &Transfer<'_>,
    core: Core,
    src_width: usize,
    slot: wgpu::BindingResource<'_>,
) -> Result<Launch> {
    let [black, white] = transfer.black_white;
    let (gain, offset) = (1.0 / (white - black), -black / (white - black));
    let [skip_top, skip_left] = [to_u32(core.skip[0])?, to_u32(core.skip[1])?];
    let [top, left] = [to_u32(core.origin[0])?, to_u32(core.origin[1])?];
    let [height, width] = [to_u32(core.size[0])?, to_u32(core.size[1])?];
    let (src_width, channels) = (to_u32(src_width)?, to_u32(transfer.channels)?);
    let strength = transfer.strength;
    let workgroups = [width.div_ceil(WORKGROUP), height.div_ceil(WORKGROUP), channels.div_ceil(4)];
    match (transfer.input, transfer.output) {
        (Surface::Buffer { buffer: plain, .. }, Surface::Buffer { buffer, height: dst_height, width: dst_width }) => {
            let (dst_width, dst_height) = (to_u32(dst_width)?, to_u32(dst_height)?);
            let params = ExportBuffer {
                src_width,
                skip_top,
                skip_left,
                width,
                height,
                channels,
                dst_width,
                dst_height,
                top,
                left,
                gain,
                offset,
                strength,
            };
            let resources = vec![slot, plain.as_entire_binding(), buffer.as_entire_binding()];
            let dispatch = dispatch(&EXPORT_BUFFER, &[], params.bytes(), workgroups);
            launch(context, precision, parameters.export(), dispatch, resources)
        }
        (Surface::Texture(plain), Surface::Texture(texture)) => {
            let factor = to_u32(transfer.factor)?;
            let params = ExportTexture {
                src_width,
                skip_top,
                skip_left,
                width,
                height,
                channels,
                top,
                left,
                factor,
                gain,
                offset,
                strength,
            };
            let (plain, view) = (plain.create_view(&view_descriptor()), texture.create_view(&view_descriptor()));
            let resources =
                vec![slot, wgpu::BindingResource::TextureView(&plain), wgpu::BindingResource::TextureView(&view)];
            // As for host pictures, with half a level for rounding.
            let constants = [("COLOUR_SPREAD", 16.5 / 255.0)];
            let dispatch = dispatch(&EXPORT_TEXTURE, &constants, params.bytes(), workgroups);
            launch(context, precision, parameters.export(), dispatch, resources)
        }
        _ => Err(Error::Options("input and output must both be buffers or both be textures".into())),
    }
}

fn view_descriptor() -> wgpu::TextureViewDescriptor<'static> {
    wgpu::TextureViewDescriptor {
        dimension: Some(wgpu::TextureViewDimension::D2),
        mip_level_count: Some(1),
        array_layer_count: Some(1),
        ..Default::default()
    }
}

fn dispatch(
    shader: &'static Shader,
    constants: &[(&'static str, f64)],
    params: Vec<u8>,
    workgroups: [u32; 3],
) -> Dispatch {
    Dispatch { shader, constants: constants.to_vec(), params, bindings: Vec::new(), workgroups }
}

fn launch(
    context: &Context,
    precision: Precision,
    Uniform { buffer, offset }: Uniform<'_>,
    dispatch: Dispatch,
    resources: Vec<wgpu::BindingResource<'_>>,
) -> Result<Launch> {
    context.queue().write_buffer(buffer, offset, &dispatch.params);
    submit::launch(context, precision, &dispatch, (buffer, offset), resources)
}
