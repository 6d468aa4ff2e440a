//! Evaluation of an expression over one record, within a budget.
//!
//! Each node costs one step, and whatever touches many bytes or elements costs one for every
//! [`BYTES_PER_STEP`]. When the budget is used up, that is an error like any other. Strings and
//! lists that an expression makes are paid for by their size, which bounds memory as well.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

use super::compile::{Binary, Fold, Node, Program, Variable};
use super::value::{Document, Input, Value};

/// Steps that one record may cost.
const STEPS_MAX: usize = 5000;

/// Bytes that one step pays for.
const BYTES_PER_STEP: usize = 64;

/// Why an expression has no result for a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum EvalError {
    /// The record has no such member.
    #[error("there is no '{0}'")]
    Missing(String),
    /// An operation does not take a type.
    #[error("{0} does not take {1}")]
    Type(&'static str, &'static str),
    /// Overflow, or division by zero.
    #[error("{0} has no result")]
    Arithmetic(&'static str),
    /// The budget is used up.
    #[error("it takes more than {STEPS_MAX} steps")]
    Budget,
}

/// What a part of an expression comes to.
pub(super) type Evaluated<'a> = Result<Value<'a>, EvalError>;

impl Program {
    /// Tells whether the record is wanted.
    ///
    /// # Errors
    /// The expression has no result, or one that is neither true nor false.
    pub(in super::super) fn accepts(&self, input: Input<'_>) -> Result<bool, EvalError> {
        let mut evaluation = Evaluation { input, steps: STEPS_MAX, locals: Vec::new() };
        match evaluation.eval(&self.root)? {
            Value::Bool(is) => Ok(is),
            other => Err(EvalError::Type("a filter", other.kind())),
        }
    }
}

struct Evaluation<'a> {
    input: Input<'a>,
    steps: usize,
    locals: Vec<Evaluated<'a>>,
}

impl<'a> Evaluation<'a> {
    fn pay(&mut self, bytes: usize) -> Result<(), EvalError> {
        let left = self.steps.checked_sub(1 + bytes / BYTES_PER_STEP);
        self.steps = left.ok_or(EvalError::Budget)?;
        Ok(())
    }

    fn eval(&mut self, node: &'a Node) -> Evaluated<'a> {
        self.pay(0)?;
        match node {
            Node::Literal(value) => Ok(borrow(value)),
            Node::Variable(variable) => Ok(self.variable(*variable)),
            Node::Local(at) => match self.locals.get(*at) {
                Some(Ok(value)) => {
                    let value = value.clone();
                    self.pay(if matches!(value, Value::Text(Cow::Owned(_))) {
                        value.weight()
                    } else {
                        0
                    })?;
                    Ok(value)
                }
                Some(Err(error)) => Err(error.clone()),
                None => Err(EvalError::Missing("variable".to_owned())),
            },
            Node::Member(of, name) => {
                let of = self.eval(of)?;
                of.member(&Value::Text(Cow::Borrowed(name)))
                    .ok_or_else(|| EvalError::Missing(name.clone()))
            }
            Node::Has(of, name) => {
                let of = self.eval(of)?;
                Ok(Value::Bool(of.member(&Value::Text(Cow::Borrowed(name))).is_some()))
            }
            Node::And(pair) => self.either(pair, false),
            Node::Or(pair) => self.either(pair, true),
            Node::Not(of) => Ok(Value::Bool(!self.truth(of)?)),
            Node::NotStrictlyFalse(of) => match self.eval(of) {
                Err(EvalError::Budget) => Err(EvalError::Budget),
                result => Ok(Value::Bool(!matches!(result, Ok(Value::Bool(false))))),
            },
            Node::Negate(of) => match self.eval(of)? {
                Value::Int(n) => {
                    n.checked_neg().map(Value::Int).ok_or(EvalError::Arithmetic("negation"))
                }
                Value::Double(n) => Ok(Value::Double(-n)),
                other => Err(EvalError::Type("negation", other.kind())),
            },
            Node::Choose(parts) => {
                let [condition, yes, no] = parts.as_ref();
                if self.truth(condition)? { self.eval(yes) } else { self.eval(no) }
            }
            Node::Binary(operator, pair) => self.binary(*operator, pair),
            Node::Matches(of, pattern) => match self.eval(of)? {
                Value::Text(text) => {
                    // A pattern looks at every byte, and more slowly than a comparison.
                    self.pay(text.len().saturating_mul(8))?;
                    Ok(Value::Bool(pattern.is_match(&text)))
                }
                other => Err(EvalError::Type("matches", other.kind())),
            },
            Node::Call(function, operands) => {
                let operands = self.all(operands)?;
                self.pay(operands.iter().map(Value::weight).sum())?;
                function.call(&operands)
            }
            Node::List(elements) => Ok(Value::List(Arc::new(self.all(elements)?))),
            Node::Fold(fold) => self.fold(fold),
        }
    }

    fn all(&mut self, nodes: &'a [Node]) -> Result<Vec<Value<'a>>, EvalError> {
        nodes.iter().map(|node| self.eval(node)).collect()
    }

    fn variable(&self, variable: Variable) -> Value<'a> {
        let input = &self.input;
        match variable {
            Variable::Key => Value::plain(input.record.key),
            Variable::Value => match input.document {
                Document::Json(json) => Value::json(json),
                Document::Plain => Value::plain(input.record.value),
            },
            Variable::Headers => Value::Headers(*input),
            Variable::Topic => Value::Text(Cow::Borrowed(input.topic)),
            Variable::Partition => Value::Int(i64::from(input.partition)),
            Variable::Offset => Value::Int(input.record.offset),
            Variable::Timestamp => Value::Int(input.record.timestamp),
        }
    }

    fn truth(&mut self, node: &'a Node) -> Result<bool, EvalError> {
        match self.eval(node)? {
            Value::Bool(is) => Ok(is),
            other => Err(EvalError::Type("a condition", other.kind())),
        }
    }

    /// `&&` and `||`: what decides wins, even over an error on the other side.
    fn either(&mut self, pair: &'a [Node; 2], decides: bool) -> Evaluated<'a> {
        let [left, right] = pair;
        let left = self.truth(left);
        if left == Ok(decides) || left == Err(EvalError::Budget) {
            return left.map(Value::Bool);
        }
        let right = self.truth(right)?;
        if right == decides { Ok(Value::Bool(decides)) } else { left.map(Value::Bool) }
    }

    fn binary(&mut self, operator: Binary, pair: &'a [Node; 2]) -> Evaluated<'a> {
        let [left, right] = pair;
        let (left, right) = (self.eval(left)?, self.eval(right)?);
        match operator {
            Binary::Equal | Binary::NotEqual => {
                self.pay(left.weight().min(right.weight()))?;
                if let (Value::Json(_), Value::Json(_)) = (&left, &right) {
                    self.pay(deep_weight(&left).min(deep_weight(&right)))?;
                }
                Ok(Value::Bool(left.is_same(&right) == (operator == Binary::Equal)))
            }
            Binary::Less | Binary::LessEqual | Binary::Greater | Binary::GreaterEqual => {
                self.pay(left.weight().min(right.weight()))?;
                compare(operator, &left, &right)
            }
            Binary::In => self.contained(&left, &right),
            Binary::Index => right_of(&left, &right),
            Binary::Add => self.add(left, right),
            _ => arithmetic(operator, &left, &right),
        }
    }

    fn contained(&mut self, left: &Value<'a>, right: &Value<'a>) -> Evaluated<'a> {
        self.pay(right.weight())?;
        match right.kind() {
            "map" => Ok(Value::Bool(right.member(left).is_some())),
            "list" => {
                let elements = right.elements().unwrap_or_default();
                for element in &elements {
                    self.pay(element.weight().min(left.weight()))?;
                    if element.is_same(left) {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            other => Err(EvalError::Type("in", other)),
        }
    }

    fn add(&mut self, left: Value<'a>, right: Value<'a>) -> Evaluated<'a> {
        match (left, right) {
            (Value::Text(left), Value::Text(right)) => {
                self.pay((left.len() + right.len()).saturating_mul(4))?;
                Ok(Value::Text(Cow::Owned(left.into_owned() + &right)))
            }
            (left, right) if left.kind() == "list" && right.kind() == "list" => {
                self.pay(left.weight() + right.weight())?;
                let mut list = left.elements().unwrap_or_default();
                list.extend(right.elements().unwrap_or_default());
                Ok(Value::List(Arc::new(list)))
            }
            (left, right) => arithmetic(Binary::Add, &left, &right),
        }
    }

    fn fold(&mut self, fold: &'a Fold) -> Evaluated<'a> {
        let range = self.eval(&fold.range)?;
        self.pay(range.weight())?;
        let kind = range.kind();
        let elements = range.elements().ok_or(EvalError::Type("a macro", kind))?;
        let mut result = self.eval(&fold.start);
        let depth = self.locals.len();
        for element in elements {
            self.locals.push(Ok(element));
            self.locals.push(result);
            let (next, goes_on) = match self.eval(&fold.condition) {
                Ok(Value::Bool(true)) => (self.eval(&fold.step), true),
                Ok(_) => (self.locals.pop().unwrap_or(Err(EvalError::Budget)), false),
                Err(error) => (Err(error), false),
            };
            result = next;
            self.locals.truncate(depth);
            if !goes_on || matches!(result, Err(EvalError::Budget)) {
                break;
            }
        }
        // The result sees no element, only what was gathered.
        self.locals.push(Ok(Value::Null));
        self.locals.push(result);
        let result = self.eval(&fold.result);
        self.locals.truncate(depth);
        result
    }
}

fn borrow<'a>(value: &'a Value<'static>) -> Value<'a> {
    match value {
        Value::Text(text) => Value::Text(Cow::Borrowed(text)),
        Value::Bytes(bytes) => Value::Bytes(Cow::Borrowed(bytes)),
        other => other.clone(),
    }
}

fn deep_weight(value: &Value<'_>) -> usize {
    fn of(json: &serde_json::Value) -> usize {
        16 + match json {
            serde_json::Value::String(text) => text.len(),
            serde_json::Value::Array(list) => list.iter().map(of).sum(),
            serde_json::Value::Object(map) => map.iter().map(|(k, v)| k.len() + of(v)).sum(),
            _ => 0,
        }
    }
    if let Value::Json(json) = value { of(json) } else { 0 }
}

fn right_of<'a>(left: &Value<'a>, right: &Value<'a>) -> Evaluated<'a> {
    let name = || match right {
        Value::Text(name) => name.clone().into_owned(),
        Value::Int(at) => at.to_string(),
        other => other.kind().to_owned(),
    };
    left.member(right).ok_or_else(|| EvalError::Missing(name()))
}

fn compare<'a>(operator: Binary, left: &Value<'_>, right: &Value<'_>) -> Evaluated<'a> {
    let is_nan = |value: &Value<'_>| matches!(value, Value::Double(n) if n.is_nan());
    let Some(order) = left.compare(right) else {
        if is_nan(left) || is_nan(right) {
            return Ok(Value::Bool(false));
        }
        return Err(EvalError::Type("a comparison", right.kind()));
    };
    Ok(Value::Bool(match operator {
        Binary::Less => order == Ordering::Less,
        Binary::LessEqual => order != Ordering::Greater,
        Binary::Greater => order == Ordering::Greater,
        _ => order != Ordering::Less,
    }))
}

fn arithmetic<'a>(operator: Binary, left: &Value<'_>, right: &Value<'_>) -> Evaluated<'a> {
    let name = match operator {
        Binary::Add => "+",
        Binary::Subtract => "-",
        Binary::Multiply => "*",
        Binary::Divide => "/",
        _ => "%",
    };
    match (left, right) {
        (Value::Int(l), Value::Int(r)) => match operator {
            Binary::Add => l.checked_add(*r),
            Binary::Subtract => l.checked_sub(*r),
            Binary::Multiply => l.checked_mul(*r),
            Binary::Divide => l.checked_div(*r),
            _ => l.checked_rem(*r),
        }
        .map(Value::Int)
        .ok_or(EvalError::Arithmetic(name)),
        (Value::Uint(l), Value::Uint(r)) => match operator {
            Binary::Add => l.checked_add(*r),
            Binary::Subtract => l.checked_sub(*r),
            Binary::Multiply => l.checked_mul(*r),
            Binary::Divide => l.checked_div(*r),
            _ => l.checked_rem(*r),
        }
        .map(Value::Uint)
        .ok_or(EvalError::Arithmetic(name)),
        (Value::Double(l), Value::Double(r)) => match operator {
            Binary::Add => Ok(Value::Double(l + r)),
            Binary::Subtract => Ok(Value::Double(l - r)),
            Binary::Multiply => Ok(Value::Double(l * r)),
            Binary::Divide => Ok(Value::Double(l / r)),
            _ => Err(EvalError::Type("%", "double")),
        },
        (left, right) => {
            let kind = if matches!(left, Value::Int(_) | Value::Uint(_) | Value::Double(_)) {
                right.kind()
            } else {
                left.kind()
            };
            Err(EvalError::Type(name, kind))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::compile::compile;
    use super::*;
    use crate::protocol::record_batch::{BatchBuilder, BatchHeader, BatchRecords};
    use proptest::prelude::*;

    const ORDER: &str = r#"{"id":17,"amount":12.5,"tags":["new","eu"],"big":18446744073709551615,
        "items":[{"sku":"a","n":2},{"sku":"b","n":5}],"user":{"name":"Ada"},"none":null}"#;

    fn accepts(source: &str, value: &str) -> Result<bool, String> {
        let program = compile(source).map_err(|error| error.to_string())?;
        let mut builder = BatchBuilder::new().at_offset(41);
        let headers: [(&[u8], Option<&[u8]>); 3] =
            [(b"type", Some(b"old")), (b"type", Some(b"created")), (b"raw", Some(b"\xff"))];
        builder.push(
            1_790_000_000_000,
            Some(b"user-7"),
            Some(value.as_bytes()),
            headers.into_iter(),
        );
        let batch = builder.finish();
        let header = BatchHeader::parse(&batch).unwrap();
        let records = BatchRecords::open(header, &batch).unwrap();
        let record = records.iter().next().unwrap().unwrap();
        let document = Document::read(record.value);
        let input = Input { topic: "orders", partition: 3, record, document: &document };
        program.accepts(input).map_err(|error| error.to_string())
    }

    #[test]
    fn expressions_see_the_whole_record() {
        for source in [
            "value.id == 17 && value.amount > 12",
            "value['user'].name.startsWith('A')",
            "key == 'user-7' && topic == 'orders' && partition == 3 && offset == 41",
            "timestamp >= timestamp('2026-01-01T00:00:00Z')",
            "headers.type == 'created' && 'type' in headers && !('nope' in headers)",
            "headers['raw'] == b'\\xff'",
            "value.tags.exists(t, t == 'eu') && 'new' in value.tags",
            "value.items.all(i, i.n > 1) && value.items.exists_one(i, i.sku == 'b')",
            "value.items.filter(i, i.n > 2).map(i, i.sku) == ['b']",
            "size(value.items) == 2 && value.tags[1] == 'eu'",
            "has(value.user.name) && !has(value.user.age) && has(value.none)",
            "value.none == null && value.big == 18446744073709551615u",
            "value.amount * 2.0 == 25.0 && value.id % 5 == 2 && -value.id < 0",
            "double(value.id) / 2.0 == 8.5 && int('3') == 3 && string(1) + 'x' == '1x'",
            "value.user.name.matches('^A[a-z]+$') && key.contains('er-') && key.endsWith('7')",
            "value.user.name.lowerAscii() == 'ada' ? true : false",
            // An error on one side loses to an answer on the other.
            "value.nope == 1 || true",
            "!(false && value.nope == 1)",
            "value.items.exists(i, i.nope == 1 || i.n == 5)",
            "value.id != '17'",
            "value.user == value.user && value.items != value.tags",
        ] {
            assert_eq!(accepts(source, ORDER), Ok(true), "{source}");
        }
        assert_eq!(accepts("value == 'text'", "text"), Ok(true));
        assert_eq!(accepts("value.contains('ex')", "text"), Ok(true));
        assert_eq!(accepts("value == 17", "17"), Ok(true));
    }

    #[test]
    fn what_has_no_answer_is_an_error() {
        for (source, reason) in [
            ("value.nope == 1", "there is no 'nope'"),
            ("value.id", "a filter does not take int"),
            ("value.id / 0 == 1", "/ has no result"),
            ("value.id + 'x' == 1", "+ does not take string"),
            ("9223372036854775807 + value.id > 0", "+ has no result"),
            ("value.id < 'x'", "a comparison does not take string"),
            ("value.tags[7] == 'x'", "there is no '7'"),
            ("size(value.id) == 1", "size does not take int"),
            ("value.id.exists(x, x == 1)", "a macro does not take int"),
            ("value.id ? true : false", "a condition does not take int"),
        ] {
            assert_eq!(accepts(source, ORDER), Err(reason.to_owned()), "{source}");
        }
    }

    #[test]
    fn the_budget_ends_every_evaluation() {
        let list = format!("[{}1]", "1,".repeat(3000));
        let budget = Err("it takes more than 5000 steps".to_owned());
        for source in [
            "value.all(a, value.all(b, value.all(c, a == b && b == c)))",
            "value.map(a, value.map(b, a)) == []",
            "size(value.map(a, value + value)) == 1 || true",
        ] {
            assert_eq!(accepts(source, &list), budget, "{source}");
        }
        let text = "x".repeat(100_000);
        let doubled = "value + value + value + value == ''";
        assert_eq!(accepts(doubled, &text), budget);
        assert_eq!(accepts("value.matches('(x+x+)+y')", &text), budget);
        assert_eq!(accepts("value.contains('y')", &text), Ok(false));
        let short = format!("[{}1]", "1,".repeat(200));
        assert_eq!(accepts("value.all(a, a == 1)", &short), Ok(true));
    }

    #[test]
    fn what_cannot_be_compiled_says_where() {
        let fails = |source: &str| compile(source).unwrap_err().to_string();
        assert!(
            fails("value.id ==").starts_with("line 1, column 12: "),
            "{}",
            fails("value.id ==")
        );
        assert!(fails("").starts_with("line 1, column 1: "), "{}", fails(""));
        assert!(fails("true &&\n  colour == 1").starts_with("line 2, column 3: 'colour' is none"));
        assert!(fails("key.nope() == 1").starts_with("line 1, column 5: there is no function"));
        assert!(fails("key.matches(key)").starts_with("line 1, column 5: the pattern"));
        assert!(fails("key.matches('(')").contains("is not a pattern"));
        assert!(fails("key.matches('(\\\\w{50}){50}')").contains("is not a pattern"));
        assert!(fails(&"x".repeat(5000)).contains("more than 4096"));
        assert!(fails(&format!("{}true{}", "(".repeat(500), ")".repeat(500))).contains("column"));
        assert!(fails(&"[".repeat(4000)).contains("nested"));
        assert!(fails(&format!("value{} == 1", ".a".repeat(200))).contains("too complex"));
        assert!(fails(&format!("offset {}> 0", "+ 1 ".repeat(600))).contains("column"));
        assert!(fails("{'a': 1} == value").contains("maps"));
    }

    #[test]
    fn long_chains_do_not_exhaust_the_stack() {
        for (part, end) in [
            ("!", "true"),
            ("-", "1"),
            ("true?true:", "true"),
            ("true||", "true"),
            ("1+", "1"),
            ("key in ", "[1]"),
            ("1==", "1"),
            ("true?", "true"),
            ("- -", "1"),
            ("a.", "b"),
        ] {
            let source = part.repeat((4096 - end.len()) / part.len()) + end;
            let _ = accepts(&source, ORDER);
        }
        for (part, begin) in [("[0]", "value"), (".a", "value"), ("(", "a"), ("{", ""), ("()", "a")]
        {
            let _ = accepts(&(begin.to_owned() + &part.repeat(4000 / part.len())), ORDER);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(source in "[a-z0-9.()\\[\\]{}'\"!&|?:,+*/%<>= \\-\\\\\n]{0,60}") {
            let _ = accepts(&source, ORDER);
        }

        #[test]
        fn arbitrary_unicode_never_panics(source in ".{0,40}", value in ".{0,40}") {
            let _ = accepts(&source, &value);
            let _ = accepts("value.a.exists(x, x > value.b) || value == 1", &value);
        }
    }
}
