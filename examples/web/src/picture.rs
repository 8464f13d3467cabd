//! Pictures as they came, and with a generator's answer.

use std::rc::Rc;

use sonolume::Frame;
use sonolume::enhancer::Generated;
use sonolume::image::{Format, difference};
use wasm_bindgen::prelude::*;

use crate::report::{report_record, thrown};

/// What a canvas holds in Chromium. The module's 4 GiB would not last for many more pixels either.
const MOST_PIXELS: usize = 1 << 28;

/// A picture, as it came.
#[wasm_bindgen]
pub struct Picture {
    frame: Rc<Frame>,
}

impl Picture {
    pub(crate) fn frame(&self) -> &Rc<Frame> {
        &self.frame
    }
}

#[wasm_bindgen]
impl Picture {
    /// From a file: PNG, JPEG, TIFF, BMP or WebP.
    pub fn decode(bytes: &[u8]) -> std::result::Result<Picture, JsValue> {
        let frame = Frame::decode(bytes).map_err(|error| thrown(&error))?;
        let (width, height) = (frame.width(), frame.height());
        if width * height > MOST_PIXELS {
            let most = MOST_PIXELS / 1_000_000;
            let message = format!("{width}x{height} pixels are too many for a browser, which holds {most} million");
            return Err(thrown(&sonolume::Error::Image { message, source: None }));
        }
        Ok(Self { frame: Rc::new(frame) })
    }

    /// From a canvas: 8-bit red, green, blue and straight alpha.
    pub fn from_rgba(width: usize, height: usize, samples: Vec<u8>) -> std::result::Result<Picture, JsValue> {
        let frame = Frame::from_rgba8(width, height, samples).map_err(|error| thrown(&error))?;
        Ok(Self { frame: Rc::new(frame) })
    }

    /// Columns.
    #[wasm_bindgen(getter)]
    pub fn width(&self) -> usize {
        self.frame.width()
    }

    /// Rows.
    #[wasm_bindgen(getter)]
    pub fn height(&self) -> usize {
        self.frame.height()
    }

    /// Bits per sample, 8 or 16.
    #[wasm_bindgen(getter)]
    pub fn bits(&self) -> u32 {
        self.frame.bits()
    }

    /// Share of the pixels that carry colour: a generator for grey lets them pass.
    #[wasm_bindgen(getter)]
    pub fn coloured(&self) -> f64 {
        self.frame.coloured_pixels() as f64 / (self.frame.width() * self.frame.height()) as f64
    }

    /// For a canvas.
    pub fn rgba(&self) -> Vec<u8> {
        self.frame.to_rgba8()
    }
}

/// A generator's answer to a picture.
#[wasm_bindgen]
pub struct Result {
    before: Rc<Frame>,
    generated: Generated,
}

impl Result {
    pub(crate) fn new(before: Rc<Frame>, generated: Generated) -> Self {
        Self { before, generated }
    }

    fn blend(&self, strength: f32) -> std::result::Result<Frame, JsValue> {
        self.generated.blend(&self.before, strength).map_err(|error| thrown(&error))
    }
}

#[wasm_bindgen]
impl Result {
    /// Columns.
    #[wasm_bindgen(getter)]
    pub fn width(&self) -> usize {
        self.generated.output.shape().width
    }

    /// Rows.
    #[wasm_bindgen(getter)]
    pub fn height(&self) -> usize {
        self.generated.output.shape().height
    }

    /// What was done.
    pub fn report(&self) -> js_sys::Object {
        report_record(&self.generated.report)
    }

    /// The picture with the answer at `strength`, 0 to 1, for a canvas.
    pub fn rgba(&self, strength: f32) -> std::result::Result<Vec<u8>, JsValue> {
        Ok(self.blend(strength)?.to_rgba8())
    }

    /// What changes at `strength`, for a canvas: grey where nothing does.
    pub fn difference(&self, strength: f32) -> std::result::Result<Vec<u8>, JsValue> {
        let after = self.blend(strength)?;
        Ok(difference(&self.before, &after).map_err(|error| thrown(&error))?.to_rgba8())
    }

    /// The picture with the answer as a PNG file, with the bits, the alpha and the colour profile that it came with.
    pub fn png(&self, strength: f32) -> std::result::Result<Vec<u8>, JsValue> {
        self.blend(strength)?.encode(Format::Png).map_err(|error| thrown(&error))
    }
}
