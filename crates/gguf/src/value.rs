//! The typed values of metadata.

/// A value of metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum GgufValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(GgufArray),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// Values of one type, one after another.
#[derive(Clone, Debug, PartialEq)]
pub enum GgufArray {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    /// Arrays whose elements may be of different types.
    Array(Vec<GgufArray>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// The numbers of types in files, of values and of the elements of arrays.
macro_rules! type_numbers {
    ($($variant:ident = $number:literal),* $(,)?) => {
        impl GgufValue {
            /// Its number in files.
            pub(crate) fn type_number(&self) -> u32 {
                match self { $(Self::$variant(_) => $number,)* }
            }
        }

        impl GgufArray {
            /// The number of its elements' type in files.
            pub(crate) fn type_number(&self) -> u32 {
                match self { $(Self::$variant(_) => $number,)* }
            }

            pub fn len(&self) -> usize {
                match self { $(Self::$variant(values) => values.len(),)* }
            }
        }
    };
}

type_numbers! {
    U8 = 0, I8 = 1, U16 = 2, I16 = 3, U32 = 4, I32 = 5, F32 = 6, Bool = 7, String = 8, Array = 9,
    U64 = 10, I64 = 11, F64 = 12,
}

impl GgufValue {
    /// An integer of any width; `None` if it is something else.
    pub fn as_integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(value) => value.into(),
            Self::I8(value) => value.into(),
            Self::U16(value) => value.into(),
            Self::I16(value) => value.into(),
            Self::U32(value) => value.into(),
            Self::I32(value) => value.into(),
            Self::U64(value) => value.into(),
            Self::I64(value) => value.into(),
            _ => return None,
        })
    }

    /// What it is, for messages: the type, and the value where that is short.
    pub fn describe(&self) -> String {
        const SHORT: usize = 40;
        match self {
            Self::F32(value) => format!("the number {value}"),
            Self::F64(value) => format!("the number {value}"),
            Self::Bool(value) => format!("the Boolean {value}"),
            Self::String(text) if text.chars().count() <= SHORT => format!("the text `{text}`"),
            Self::String(_) => "a long text".to_owned(),
            Self::Array(array) => format!("an array of {} {}", array.len(), array.type_name()),
            _ => match self.as_integer() {
                Some(value) => format!("the integer {value}"),
                None => "a value".to_owned(),
            },
        }
    }
}

impl GgufArray {
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The integers of an array of integers of any width; `None` for another array.
    pub fn integers(&self) -> Option<Vec<i128>> {
        fn widened<T: Copy + Into<i128>>(values: &[T]) -> Option<Vec<i128>> {
            Some(values.iter().map(|&value| value.into()).collect())
        }
        match self {
            Self::U8(values) => widened(values),
            Self::I8(values) => widened(values),
            Self::U16(values) => widened(values),
            Self::I16(values) => widened(values),
            Self::U32(values) => widened(values),
            Self::I32(values) => widened(values),
            Self::U64(values) => widened(values),
            Self::I64(values) => widened(values),
            _ => None,
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            Self::F32(_) | Self::F64(_) => "numbers",
            Self::Bool(_) => "Booleans",
            Self::String(_) => "texts",
            Self::Array(_) => "arrays",
            _ => "integers",
        }
    }
}

impl From<&str> for GgufValue {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for GgufValue {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<u32> for GgufValue {
    fn from(value: u32) -> Self {
        Self::U32(value)
    }
}

impl From<f32> for GgufValue {
    fn from(value: f32) -> Self {
        Self::F32(value)
    }
}

impl From<bool> for GgufValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<GgufArray> for GgufValue {
    fn from(values: GgufArray) -> Self {
        Self::Array(values)
    }
}
