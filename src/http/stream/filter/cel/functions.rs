//! Functions of expressions.

use std::borrow::Cow;

use super::eval::{EvalError, Evaluated};
use super::value::Value;

/// A function; the receiver of a method is its first operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Contains,
    StartsWith,
    EndsWith,
    LowerAscii,
    UpperAscii,
    Int,
    Double,
    Text,
}

impl Function {
    /// Finds a function by its name and the number of its operands.
    pub(super) fn find(name: &str, operands: usize) -> Option<Self> {
        let (function, takes) = match name {
            "size" => (Self::Size, 1),
            "contains" => (Self::Contains, 2),
            "startsWith" => (Self::StartsWith, 2),
            "endsWith" => (Self::EndsWith, 2),
            "lowerAscii" => (Self::LowerAscii, 1),
            "upperAscii" => (Self::UpperAscii, 1),
            "int" => (Self::Int, 1),
            "double" => (Self::Double, 1),
            "string" => (Self::Text, 1),
            _ => return None,
        };
        (takes == operands).then_some(function)
    }

    /// Calls the function. Its operands were paid for.
    pub(super) fn call<'a>(self, operands: &[Value<'a>]) -> Evaluated<'a> {
        match (self, operands) {
            (Self::Size, [of]) => {
                let size = of.size().ok_or(EvalError::Type("size", of.kind()))?;
                Ok(Value::Int(i64::try_from(size).unwrap_or(i64::MAX)))
            }
            (Self::Contains, [Value::Text(text), Value::Text(part)]) => {
                let found = memchr::memmem::find(text.as_bytes(), part.as_bytes());
                Ok(Value::Bool(found.is_some()))
            }
            (Self::StartsWith, [Value::Text(text), Value::Text(part)]) => {
                Ok(Value::Bool(text.starts_with(part.as_ref())))
            }
            (Self::EndsWith, [Value::Text(text), Value::Text(part)]) => {
                Ok(Value::Bool(text.ends_with(part.as_ref())))
            }
            (Self::LowerAscii, [Value::Text(text)]) => {
                Ok(Value::Text(Cow::Owned(text.to_ascii_lowercase())))
            }
            (Self::UpperAscii, [Value::Text(text)]) => {
                Ok(Value::Text(Cow::Owned(text.to_ascii_uppercase())))
            }
            (Self::Int, [of]) => integer(of),
            (Self::Double, [of]) => double(of),
            (Self::Text, [of]) => text(of),
            (_, operands) => {
                let kind = operands.first().map_or("nothing", Value::kind);
                Err(EvalError::Type("function", kind))
            }
        }
    }
}

fn integer<'a>(of: &Value<'_>) -> Evaluated<'a> {
    let number = match of {
        Value::Int(number) => Some(*number),
        Value::Uint(number) => i64::try_from(*number).ok(),
        #[allow(clippy::cast_possible_truncation, reason = "the range was looked at")]
        Value::Double(number) if number.abs() < 9.2e18 => Some(number.trunc() as i64),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    };
    number.map(Value::Int).ok_or(EvalError::Type("int", of.kind()))
}

fn double<'a>(of: &Value<'_>) -> Evaluated<'a> {
    #[allow(clippy::cast_precision_loss, reason = "a double is as exact as it is")]
    let number = match of {
        Value::Int(number) => Some(*number as f64),
        Value::Uint(number) => Some(*number as f64),
        Value::Double(number) => Some(*number),
        Value::Text(text) => text.parse().ok(),
        _ => None,
    };
    number.map(Value::Double).ok_or(EvalError::Type("double", of.kind()))
}

fn text<'a>(of: &Value<'a>) -> Evaluated<'a> {
    Ok(Value::Text(match of {
        Value::Text(text) => text.clone(),
        Value::Int(number) => Cow::Owned(number.to_string()),
        Value::Uint(number) => Cow::Owned(number.to_string()),
        Value::Double(number) => Cow::Owned(number.to_string()),
        Value::Bool(is) => Cow::Borrowed(if *is { "true" } else { "false" }),
        _ => return Err(EvalError::Type("string", of.kind())),
    }))
}
