//! A kernel launch as data: recorded by an operator, executed by the `gpu` module.

/// A compute kernel's source and its host-side contract.
///
/// Every kernel declares `@binding(0)` as the uniform `Params`, then the buffers of [`Dispatch::bindings`] in order, and
/// has one entry point, `main`. The source is put behind a prelude that defines `elem` and `elem4` (the storage type,
/// f32 or f16) and behind the library files it names.
#[derive(Debug)]
pub struct Shader {
    /// File name without its ending: the stem, or `<stem>_<variant>`.
    pub name: &'static str,
    /// The text of `shaders/<name>.wgsl`.
    pub source: &'static str,
    /// Files of `shaders/lib` that go before it.
    pub library: &'static [Library],
    /// Name and byte offset of each field of the Rust side's `Params`.
    pub params: &'static [(&'static str, usize)],
}

/// A file of `shaders/lib`: functions that several kernels share.
#[derive(Clone, Copy, Debug)]
pub struct Library {
    /// File name without its ending.
    pub name: &'static str,
    /// The file's text.
    pub source: &'static str,
    /// What takes its place where subgroups are eight consecutive invocations; `None` if the text stays.
    pub eight_lanes: Option<&'static str>,
}

/// `shaders/lib/<name>.wgsl`.
macro_rules! library {
    ($name:literal) => {
        $crate::ops::dispatch::Library {
            name: $name,
            source: $crate::ops::dispatch::library_text!($name),
            eight_lanes: None,
        }
    };
}
macro_rules! library_text {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/lib/", $name, ".wgsl"))
    };
}
pub(crate) use {library, library_text};

/// `activate(value, slope)`, chosen by the overrides `ACTIVATION` and `ALPHA`; `activate_by(code, alpha, value, slope)`.
pub const ACTIVATION: Library = library!("activation");
/// `live4(group, channels)` and `shift4(low, high, shift)`: lanes of a group that exist, and four that straddle two.
pub const LANES: Library = library!("lanes");
/// `combine(kind, a, alpha, b, beta)`, by the numbers of [`BinaryKind`](super::binary::BinaryKind).
pub const COMBINE: Library = library!("combine");
/// `border(position, size, rule)`: the pixel that stands for one outside the image.
pub const BORDER: Library = library!("border");

/// `pixel_moments(base, groups, channels, eps)`: mean and inverse deviation of a pixel's channels.
pub const PIXEL_MOMENTS: Library = library!("pixel_moments");
/// `place(pixel, weight)` and `load4(place, group)`: one image, two joined, or one with layer norm, by the overrides `JOINED` and
/// `NORM`.
pub const SOURCE: Library = library!("source");
/// `store(pixel, group, sum)` and `store_two`: residual, activation, gate or pixel shuffle, and write; by the overrides
/// `RESIDUAL`, `GATE` and `SHUFFLE`.
pub const STORE: Library = library!("store");

/// The storage type's definitions in f32.
pub const PRELUDE_F32: &str = library_text!("elem_f32");
/// The storage type's definitions in f16.
pub const PRELUDE_F16: &str = library_text!("elem_f16");

/// What a device's kernels may use beyond what WebGPU promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Subgroups are eight consecutive invocations: kernels share what they read.
    pub eight_lanes: bool,
    /// Activations are stored in 16 bits.
    pub halves: bool,
    /// The matrices that a subgroup multiplies, if it does.
    pub matrices: Option<Matrices>,
}

/// Matrices that the lanes of a subgroup hold together and multiply in one instruction: factors of 16 bits, sums of 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrices {
    /// 8x8, held by 8 lanes (Mesa's software driver).
    Eight,
    /// 16x16, held by 32 lanes (NVIDIA's tensor cores).
    Sixteen,
}

impl Matrices {
    /// Rows and columns.
    pub const fn edge(self) -> usize {
        match self {
            Self::Eight => 8,
            Self::Sixteen => 16,
        }
    }

    /// Lanes of a subgroup that holds them.
    pub const fn lanes(self) -> u32 {
        match self {
            Self::Eight => 8,
            Self::Sixteen => 32,
        }
    }

    /// Workgroup memory that kernels with them take at most: what drivers that have them offer.
    pub const fn workgroup_bytes(self) -> usize {
        match self {
            Self::Eight => 32 << 10,
            Self::Sixteen => 48 << 10,
        }
    }
}

/// Weights as a device keeps them.
#[derive(Clone, Debug, PartialEq)]
pub enum Packed {
    /// In the storage type, in a buffer of their own.
    Stored(Vec<f32>),
    /// In f32 whatever the storage type, for uniform or storage bindings.
    Blocks(Vec<f32>),
}

/// A buffer that a kernel reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The operator's input of this index.
    Input(usize),
    /// The packed weights of this index.
    Weight(usize),
    /// A stretch of packed weights that are [`Packed::Blocks`].
    Block {
        /// Index of the packed weights.
        weight: usize,
        /// First byte.
        start: u64,
        /// Number of bytes; what lies behind the weights is not read.
        bytes: u64,
    },
    /// Memory that holds nothing from one operator to the next; large enough for so many elements.
    Scratch {
        /// Which of them, counted from 0.
        index: usize,
        /// Elements that are read or written.
        elements: u64,
    },
    /// The operator's output.
    Output,
}

/// One kernel launch.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// The kernel.
    pub shader: &'static Shader,
    /// Values of its `override` constants; all of them, as none has a default.
    pub constants: Vec<(&'static str, f64)>,
    /// The uniform `Params`, as bytes.
    pub params: Vec<u8>,
    /// The buffers from `@binding(1)` on.
    pub bindings: Vec<Binding>,
    /// Workgroups in x, y and z.
    pub workgroups: [u32; 3],
}

/// Invocations in x and y of a workgroup that covers pixels: 8 x 8 is within every device's limits and keeps a row's
/// reads together.
pub const WORKGROUP: u32 = 8;

/// Invocations of a workgroup that covers a line of pixels.
const LINE: u32 = 64;
/// Workgroups of one row of a grid; a device allows 65535.
pub(crate) const GRID_ROW: u32 = 32768;

/// The grid of a kernel with one invocation for each of `pixels`, in `layers`: the workgroups of a row, which the kernel must know,
/// and those in x, y and z.
pub(crate) fn line_grid(pixels: u32, layers: u32) -> (u32, [u32; 3]) {
    let workgroups = pixels.div_ceil(LINE);
    let row = workgroups.clamp(1, GRID_ROW);
    (row, [row, workgroups.div_ceil(row), layers])
}

/// Who uses which [`Binding::Scratch`].
pub(crate) mod scratch {
    /// Winograd's transformed pixels.
    pub(crate) const TRANSFORMED: usize = 0;
    /// Winograd's products.
    pub(crate) const PRODUCTS: usize = 1;
    /// What a convolution with layer norm knows of each pixel.
    pub(crate) const STATISTICS: usize = 2;
    /// From here on: tensors as the host has them.
    pub(crate) const PLANES: usize = 3;
}

/// Declares a kernel's `Params`: 32-bit scalars only, so that Rust's and WGSL's layouts agree.
macro_rules! params {
    (struct $name:ident { $($field:ident: $kind:ty),* $(,)? }) => {
        #[repr(C)]
        #[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
        struct $name {
            $($field: $kind,)*
        }

        impl $name {
            const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), core::mem::offset_of!($name, $field))),*];

            fn bytes(&self) -> Vec<u8> {
                bytemuck::bytes_of(self).to_vec()
            }
        }
    };
}
pub(crate) use params;
