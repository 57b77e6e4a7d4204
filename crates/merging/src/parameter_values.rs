//! Values that a file or a command line gives to parameters, each under the name of its parameter.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{DeserializeOwned, Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::parameter::Parameter;

/// The value of some parameters: `density = 0.3`.
pub type ParameterValues = PerParameter<f64>;

/// The values to search of some parameters: `densities = [0.1, 0.3]`.
pub type SearchValues = PerParameter<Vec<f64>>;

/// A value for some of the parameters.
///
/// In a file it is a table that has nothing but their names, made to be flattened into a larger
/// one.
#[derive(Clone, Debug, PartialEq)]
pub struct PerParameter<V>(BTreeMap<Parameter, V>);

/// What a parameter can be given: a value, or values to search.
pub trait Given: Clone + Serialize + DeserializeOwned + JsonSchema {
    /// The names of all parameters that can be given one.
    const NAMES: &'static [&'static str];

    /// The name under which a parameter is given one, if it can.
    fn name(parameter: Parameter) -> Option<&'static str>;

    /// What the help says of it.
    fn help(parameter: Parameter) -> Option<String>;
}

impl Given for f64 {
    const NAMES: &'static [&'static str] = &{
        let mut names = [""; Parameter::ALL.len()];
        let mut index = 0;
        while index < names.len() {
            names[index] = Parameter::ALL[index].info().name;
            index += 1;
        }
        names
    };

    fn name(parameter: Parameter) -> Option<&'static str> {
        Some(parameter.info().name)
    }

    fn help(parameter: Parameter) -> Option<String> {
        Some(parameter.help())
    }
}

/// How many parameters are searched.
const SEARCHED: usize = {
    let (mut count, mut index) = (0, 0);
    while index < Parameter::ALL.len() {
        if Parameter::ALL[index].info().search.is_some() {
            count += 1;
        }
        index += 1;
    }
    count
};

impl Given for Vec<f64> {
    const NAMES: &'static [&'static str] = &{
        let mut names = [""; SEARCHED];
        let (mut count, mut index) = (0, 0);
        while index < Parameter::ALL.len() {
            if let Some(search) = &Parameter::ALL[index].info().search {
                names[count] = search.name;
                count += 1;
            }
            index += 1;
        }
        names
    };

    fn name(parameter: Parameter) -> Option<&'static str> {
        Some(parameter.info().search.as_ref()?.name)
    }

    fn help(parameter: Parameter) -> Option<String> {
        parameter.search_help()
    }
}

impl<V> PerParameter<V> {
    pub fn get(&self, parameter: Parameter) -> Option<&V> {
        self.0.get(&parameter)
    }

    pub fn insert(&mut self, parameter: Parameter, value: V) {
        self.0.insert(parameter, value);
    }

    /// The parameters that have a value, in the order of their table.
    pub fn iter(&self) -> impl Iterator<Item = (Parameter, &V)> {
        self.0.iter().map(|(&parameter, value)| (parameter, value))
    }
}

impl<V> Default for PerParameter<V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<V> FromIterator<(Parameter, V)> for PerParameter<V> {
    fn from_iter<I: IntoIterator<Item = (Parameter, V)>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

impl<V: Given> Serialize for PerParameter<V> {
    /// Those that are not given are null.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(V::NAMES.len()))?;
        for parameter in Parameter::ALL {
            if let Some(name) = V::name(parameter) {
                map.serialize_entry(name, &self.get(parameter))?;
            }
        }
        map.end()
    }
}

impl<'de, V: Given> Deserialize<'de> for PerParameter<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As a struct, so that it takes its own fields only from the table that it is flattened into.
        deserializer.deserialize_struct("PerParameter", V::NAMES, ByName(PhantomData))
    }
}

struct ByName<V>(PhantomData<V>);

impl<'de, V: Given> Visitor<'de> for ByName<V> {
    type Value = PerParameter<V>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a table of {}", V::NAMES.join(", "))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = PerParameter::default();
        while let Some(name) = map.next_key::<String>()? {
            let mut all = Parameter::ALL.into_iter();
            let parameter = all
                .find(|&parameter| V::name(parameter) == Some(&name))
                .ok_or_else(|| Error::unknown_field(&name, V::NAMES))?;
            if let Some(value) = map.next_value::<Option<V>>()? {
                values.insert(parameter, value);
            }
        }
        Ok(values)
    }
}

impl<V: Given> JsonSchema for PerParameter<V> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("PerParameter_{}", V::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut properties = serde_json::Map::new();
        for parameter in Parameter::ALL {
            if let (Some(name), Some(help)) = (V::name(parameter), V::help(parameter)) {
                let mut schema = generator.subschema_for::<Option<V>>();
                schema.insert("description".to_owned(), format!("{help}.").into());
                schema.insert("default".to_owned(), serde_json::Value::Null);
                properties.insert(name.to_owned(), schema.to_value());
            }
        }
        schemars::json_schema!({"type": "object", "properties": properties})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Table {
        name: String,
        #[serde(flatten)]
        values: ParameterValues,
    }

    #[test]
    fn values_are_fields_of_the_table_around_them() {
        let table: Table = serde_json::from_value(json!({"name": "x", "drop": 1, "density": null}))
            .expect("a table");
        assert_eq!(table.values, [(Parameter::Drop, 1.0)].into_iter().collect());
        let written = serde_json::to_value(&table).expect("JSON");
        let expected = json!({
            "name": "x", "density": null, "drop": 1.0, "rank_fraction": null, "coefficient": null,
            "common_fraction": null, "prune": null
        });
        assert_eq!(written, expected);
        assert_eq!(
            serde_json::from_value::<Table>(written).expect("a table"),
            table
        );
    }

    #[test]
    fn an_unknown_field_of_the_table_is_still_refused() {
        let read = |value| serde_json::from_value::<Table>(value);
        let error = read(json!({"name": "x", "densty": 0.5})).expect_err("misspelt");
        assert!(error.to_string().contains("densty"), "{error}");
        assert!(read(json!({"name": "x", "density": "half"})).is_err());
    }

    #[test]
    fn the_schema_names_every_parameter_and_no_others() {
        let schema = schemars::schema_for!(Table);
        let schema = schema.as_value();
        assert_eq!(schema["additionalProperties"], false);
        let properties = schema["properties"].as_object().expect("properties");
        let names: Vec<&str> = properties.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "name",
                "density",
                "drop",
                "rank_fraction",
                "coefficient",
                "common_fraction",
                "prune"
            ]
        );
        assert_eq!(properties["drop"]["type"], json!(["number", "null"]));
    }

    #[test]
    fn lists_have_names_of_their_own() {
        let lists: SearchValues =
            serde_json::from_value(json!({"densities": [0.1, 0.3]})).expect("lists");
        assert_eq!(lists.get(Parameter::Density), Some(&vec![0.1, 0.3]));
        assert!(serde_json::from_value::<SearchValues>(json!({"coefficients": [1]})).is_err());
    }
}
