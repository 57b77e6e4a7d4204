//! A point of the search: λ and the parameters of a method.

use serde::Serialize;

use crate::method::Method;

/// What a merge is searched for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Setting {
    pub method: Method,
    /// λ.
    pub scale: f64,
}

/// One number of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Coordinate {
    /// λ, which every method has.
    Scale,
    Density,
    Drop,
    RankFraction,
}

impl Coordinate {
    /// The coordinates of `method`, in the order in which they are searched.
    pub fn of(method: Method) -> &'static [Self] {
        match method {
            Method::Average | Method::Sum | Method::Tsv => &[Self::Scale],
            Method::Ties { .. } => &[Self::Scale, Self::Density],
            Method::Dare { .. } => &[Self::Scale, Self::Drop],
            Method::DareTies { .. } => &[Self::Scale, Self::Density, Self::Drop],
            Method::Cart { .. } => &[Self::Scale, Self::RankFraction],
        }
    }

    /// Its name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scale => "λ",
            Self::Density => "density",
            Self::Drop => "drop",
            Self::RankFraction => "rank fraction",
        }
    }
}

impl Setting {
    /// The value of a coordinate, if the method has it.
    pub fn get(&self, coordinate: Coordinate) -> Option<f64> {
        match (coordinate, self.method) {
            (Coordinate::Scale, _) => Some(self.scale),
            (Coordinate::Density, Method::Ties { density } | Method::DareTies { density, .. }) => {
                Some(density)
            }
            (Coordinate::Drop, Method::Dare { drop } | Method::DareTies { drop, .. }) => Some(drop),
            (Coordinate::RankFraction, Method::Cart { rank_fraction, .. }) => Some(rank_fraction),
            _ => None,
        }
    }

    /// The same setting with another value of a coordinate; a method that lacks it stays as it is.
    #[must_use]
    pub fn with(mut self, coordinate: Coordinate, value: f64) -> Self {
        match (coordinate, &mut self.method) {
            (Coordinate::Scale, _) => self.scale = value,
            (Coordinate::Density, Method::Ties { density } | Method::DareTies { density, .. }) => {
                *density = value;
            }
            (Coordinate::Drop, Method::Dare { drop } | Method::DareTies { drop, .. }) => {
                *drop = value;
            }
            (Coordinate::RankFraction, Method::Cart { rank_fraction, .. }) => {
                *rank_fraction = value;
            }
            _ => {}
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_has_exactly_the_coordinates_that_it_is_searched_for() {
        let all = [
            Coordinate::Scale,
            Coordinate::Density,
            Coordinate::Drop,
            Coordinate::RankFraction,
        ];
        let methods = [
            Method::Average,
            Method::Sum,
            Method::Ties { density: 0.25 },
            Method::Dare { drop: 0.25 },
            Method::DareTies {
                drop: 0.25,
                density: 0.75,
            },
            Method::Tsv,
            Method::Cart {
                rank_fraction: 0.25,
                coefficient: 3.0,
            },
        ];
        for method in methods {
            let setting = Setting { method, scale: 2.0 };
            for coordinate in all {
                let has = Coordinate::of(method).contains(&coordinate);
                let changed = setting.with(coordinate, 0.5);
                assert_eq!(setting.get(coordinate).is_some(), has, "{method:?}");
                assert_eq!(changed.get(coordinate), has.then_some(0.5), "{method:?}");
                assert_eq!(changed != setting, has, "{method:?} {coordinate:?}");
            }
        }
    }

    #[test]
    fn the_coefficient_of_cart_is_no_coordinate() {
        let method = Method::Cart {
            rank_fraction: 0.08,
            coefficient: 3.0,
        };
        let setting = Setting { method, scale: 1.0 }.with(Coordinate::RankFraction, 0.32);
        let expected = Method::Cart {
            rank_fraction: 0.32,
            coefficient: 3.0,
        };
        assert_eq!(setting.method, expected);
    }
}
