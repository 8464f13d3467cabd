//! Sizes of pictures as people write them.

use std::str::FromStr;

use serde_json::{Value, json};

/// Columns and rows, written `1024x768`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub width: usize,
    pub height: usize,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let sides =
            text.split_once(['x', 'X', '×']).map(|(width, height)| (width.trim().parse(), height.trim().parse()));
        match sides {
            Some((Ok(width @ 1..=0xFFFF_FFFF), Ok(height @ 1..=0xFFFF_FFFF))) => Ok(Self { width, height }),
            _ => Err("write the size as WIDTHxHEIGHT in pixels, such as 1024x768".into()),
        }
    }
}

/// `[height, width]`, the order of the library, as an object.
pub fn record([height, width]: [usize; 2]) -> Value {
    json!({ "width": width, "height": height })
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn sizes_are_width_by_height_and_never_zero() {
        assert_eq!("640x480".parse(), Ok(Size { width: 640, height: 480 }));
        for text in ["640", "0x3", "3x0", "x", "-1x4", "3x4x5", "99999999999x1"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
