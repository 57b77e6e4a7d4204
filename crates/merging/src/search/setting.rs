//! A point of the search: λ and the parameters of a method.

use serde::{Serialize, Serializer};

use crate::method::Method;
use crate::parameter::Parameter;

/// A setting of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Setting {
    pub method: Method,
    /// λ.
    pub scale: f64,
}

/// One coordinate of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coordinate {
    /// λ, which every method has.
    Scale,
    Parameter(Parameter),
}

impl Serialize for Coordinate {
    /// Its name in files.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::Scale => "scale",
            Self::Parameter(parameter) => parameter.info().name,
        })
    }
}

impl Coordinate {
    /// The coordinates of `method`, in the order in which they are searched.
    pub fn of(method: Method) -> Vec<Self> {
        let parameters = method.kind().info().parameters.iter().copied();
        let searched = parameters.filter(|parameter| parameter.info().search.is_some());
        [Self::Scale]
            .into_iter()
            .chain(searched.map(Self::Parameter))
            .collect()
    }

    /// Its name in messages.
    pub fn name(self) -> String {
        match self {
            Self::Scale => "λ".to_owned(),
            Self::Parameter(parameter) => parameter.words(),
        }
    }
}

impl Setting {
    /// The value of a coordinate, if the method has it.
    pub fn get(&self, coordinate: Coordinate) -> Option<f64> {
        match coordinate {
            Coordinate::Scale => Some(self.scale),
            Coordinate::Parameter(parameter) => self.method.get(parameter),
        }
    }

    /// The same setting with another value of a coordinate; a method that lacks it stays as it is.
    #[must_use]
    pub fn with(mut self, coordinate: Coordinate, value: f64) -> Self {
        match coordinate {
            Coordinate::Scale => self.scale = value,
            Coordinate::Parameter(parameter) => self.method = self.method.with(parameter, value),
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_searched_by_scale_first_and_then_by_its_parameters() {
        let method = Method::DareTies {
            drop: 0.25,
            density: 0.75,
        };
        let [density, drop] = [Parameter::Density, Parameter::Drop].map(Coordinate::Parameter);
        assert_eq!(Coordinate::of(method), [Coordinate::Scale, density, drop]);
        let setting = Setting { method, scale: 2.0 };
        assert_eq!(setting.get(Coordinate::Scale), Some(2.0));
        assert_eq!(setting.get(drop), Some(0.25));
        let changed = setting.with(density, 0.5).with(Coordinate::Scale, 3.0);
        assert_eq!((changed.get(density), changed.scale), (Some(0.5), 3.0));
        assert_eq!(Coordinate::of(Method::Sum), [Coordinate::Scale]);
    }

    #[test]
    fn the_coefficient_of_cart_is_no_coordinate() {
        let method = Method::Cart {
            rank_fraction: 0.08,
            coefficient: 3.0,
        };
        let setting = Setting { method, scale: 1.0 };
        let [_, rank_fraction] = Coordinate::of(method)[..] else {
            panic!("λ and the rank fraction");
        };
        let setting = setting.with(rank_fraction, 0.32);
        let expected = Method::Cart {
            rank_fraction: 0.32,
            coefficient: 3.0,
        };
        assert_eq!(setting.method, expected);
    }
}
