//! The size that training images are brought to, as a file writes it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number of pixels for both sides, or `[width, height]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Sides", into = "Sides")]
pub struct Resolution {
    pub width: usize,
    pub height: usize,
}

/// How a resolution is written.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Sides {
    Square(usize),
    Each([usize; 2]),
}

impl From<Sides> for Resolution {
    fn from(sides: Sides) -> Self {
        let [width, height] = match sides {
            Sides::Square(side) => [side, side],
            Sides::Each(sides) => sides,
        };
        Self { width, height }
    }
}

impl From<Resolution> for Sides {
    fn from(Resolution { width, height }: Resolution) -> Self {
        match width == height {
            true => Self::Square(width),
            false => Self::Each([width, height]),
        }
    }
}

impl Resolution {
    /// The same number of pixels for both sides.
    pub fn square(side: usize) -> Self {
        Self {
            width: side,
            height: side,
        }
    }

    /// Height and width.
    pub fn size(self) -> [usize; 2] {
        [self.height, self.width]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_both_sides_and_two_are_width_and_height() {
        let read = |text: &str| serde_json::from_str::<Resolution>(text);
        assert_eq!(read("512").unwrap(), Resolution::square(512));
        let wide = read("[768, 512]").unwrap();
        assert_eq!(wide.size(), [512, 768]);
        assert_eq!(serde_json::to_string(&wide).unwrap(), "[768,512]");
        assert_eq!(
            serde_json::to_string(&Resolution::square(64)).unwrap(),
            "64"
        );
        assert!(read("[1, 2, 3]").is_err() && read("\"512\"").is_err());
    }
}
