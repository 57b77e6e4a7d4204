//! A colour scale that is also ordered for colour-blind readers.

/// Cividis (Nuñez, Anderton and Renslow 2018), made for all kinds of colour vision: from dark blue
/// to yellow, ever lighter. Nine even places as matplotlib 3 has them:
/// `[tuple(round(255 * c) for c in colormaps["cividis"](i / 8)[:3]) for i in range(9)]`.
const CIVIDIS: [[u8; 3]; 9] = [
    [0, 34, 78],
    [26, 56, 111],
    [67, 78, 108],
    [97, 101, 111],
    [125, 124, 120],
    [155, 148, 118],
    [188, 174, 108],
    [222, 201, 88],
    [254, 232, 56],
];

/// A colour of the scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Colour([f64; 3]);

impl Colour {
    /// The colour at a place from 0 to 1.
    pub(crate) fn at(place: f64) -> Self {
        let last = CIVIDIS.len() - 1;
        let along = place.clamp(0.0, 1.0) * last as f64;
        let below = (along.floor() as usize).min(last - 1);
        let share = along - below as f64;
        let channel = |index: usize| {
            let [from, to] = [CIVIDIS[below][index], CIVIDIS[below + 1][index]].map(f64::from);
            from + share * (to - from)
        };
        Self([channel(0), channel(1), channel(2)])
    }

    pub(crate) fn hexadecimal(self) -> String {
        let [red, green, blue] = self.0.map(|channel| channel.round() as u8);
        format!("#{red:02x}{green:02x}{blue:02x}")
    }

    /// Whether black is easier to read on it than white: their contrasts (WCAG 2) are equal at a
    /// relative luminance of 0.179.
    pub(crate) fn is_light(self) -> bool {
        let linear = self.0.map(|channel| {
            let share = channel / 255.0;
            match share <= 0.040_45 {
                true => share / 12.92,
                false => ((share + 0.055) / 1.055).powf(2.4),
            }
        });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] > 0.179
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_grows_lighter_from_end_to_end() {
        assert_eq!(Colour::at(0.0).hexadecimal(), "#00224e");
        assert_eq!(Colour::at(1.0).hexadecimal(), "#fee838");
        assert_eq!(Colour::at(7.0), Colour::at(1.0));
        let light: Vec<bool> = (0..=10)
            .map(|tenth| Colour::at(f64::from(tenth) / 10.0).is_light())
            .collect();
        assert!(light.is_sorted() && !light[0] && light[10], "{light:?}");
    }
}
