//! From the text of an expression to a tree that is ready to be evaluated.
//!
//! Everything that can be refused is refused here, with its place in the text: unknown names,
//! unknown functions, patterns that are no literals. What is left can only fail on data.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};
use cel::parser::PrattParser;

use super::functions::Function;
use super::value::Value;
use crate::http::time::parse_rfc3339_ms;

/// Longest source, in bytes.
pub(in super::super) const SOURCE_BYTES_MAX: usize = 4096;

/// Nodes of a tree at most.
const NODES_MAX: usize = 512;

/// Depth of a tree at most, macros expanded.
const DEPTH_MAX: usize = 48;

/// How deep the parser may nest.
const PARSER_DEPTH_MAX: u16 = 32;

/// How deep brackets may nest, which the parser does not count by itself.
const BRACKETS_MAX: usize = 32;

/// Memory of one compiled pattern of `matches`, in bytes.
const PATTERN_BYTES_MAX: usize = 64 * 1024;

/// Why an expression is not accepted; says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub(in super::super) struct CompileError {
    line: usize,
    column: usize,
    message: String,
}

/// A variable of every expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable {
    Key,
    Value,
    Headers,
    Topic,
    Partition,
    Offset,
    Timestamp,
}

/// An operator of two operands that are both evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Index,
}

/// A part of an expression.
#[derive(Debug)]
pub(super) enum Node {
    Literal(Value<'static>),
    Variable(Variable),
    /// A variable of a comprehension, by its place on the stack of such variables.
    Local(usize),
    Member(Box<Node>, String),
    Has(Box<Node>, String),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    Not(Box<Node>),
    Negate(Box<Node>),
    NotStrictlyFalse(Box<Node>),
    Choose(Box<[Node; 3]>),
    Binary(Binary, Box<[Node; 2]>),
    Matches(Box<Node>, Box<regex::Regex>),
    Call(Function, Vec<Node>),
    List(Vec<Node>),
    Fold(Box<Fold>),
}

/// A comprehension. Its element and its result so far are the next two locals.
#[derive(Debug)]
pub(super) struct Fold {
    pub(super) range: Node,
    pub(super) start: Node,
    pub(super) condition: Node,
    pub(super) step: Node,
    pub(super) result: Node,
}

/// An expression that is ready to be evaluated.
#[derive(Debug)]
pub(in super::super) struct Program {
    pub(super) root: Node,
    /// The document of a record is needed.
    pub(in super::super) reads_value: bool,
}

/// Compiles an expression.
///
/// # Errors
/// What is wrong and where.
pub(in super::super) fn compile(source: &str) -> Result<Program, CompileError> {
    let mut compiler = Compiler { source, locals: Vec::new(), nodes: 0, reads_value: false };
    if source.len() > SOURCE_BYTES_MAX {
        let length = source.len();
        let message = format!("{length} bytes are more than {SOURCE_BYTES_MAX}");
        return Err(compiler.at(SOURCE_BYTES_MAX, message));
    }
    if let Some(at) = too_many_brackets(source) {
        return Err(compiler.at(at, format!("brackets are nested more than {BRACKETS_MAX} deep")));
    }
    let parser = PrattParser::new()
        .max_recursion_depth(PARSER_DEPTH_MAX)
        .max_expression_node_count(NODES_MAX)
        .error_recovery_limit(1);
    // The parser is not ours: if it panics, that is one bad request and not a lost connection.
    let parsed = catch_unwind(AssertUnwindSafe(|| parser.parse(source)));
    let tree = match parsed {
        Ok(Ok(tree)) => tree,
        Ok(Err(errors)) => {
            let Some(first) = errors.errors.first() else {
                return Err(compiler.at(0, "it cannot be parsed"));
            };
            let (line, column) = first.pos;
            return Err(CompileError {
                line: usize::try_from(line).unwrap_or(1).max(1),
                column: usize::try_from(column).unwrap_or(1).max(1),
                message: first.msg.clone(),
            });
        }
        Err(_panic) => return Err(compiler.at(0, "it cannot be parsed")),
    };
    let root = compiler.lower(&tree, 0)?;
    Ok(Program { root, reads_value: compiler.reads_value })
}

/// Finds where brackets nest too deep; those in strings count as well.
fn too_many_brackets(source: &str) -> Option<usize> {
    let mut depth = 0_usize;
    source.bytes().position(|byte| {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > BRACKETS_MAX
    })
}

struct Compiler<'s> {
    source: &'s str,
    locals: Vec<String>,
    nodes: usize,
    reads_value: bool,
}

type Lowered = Result<Node, CompileError>;

impl Compiler<'_> {
    fn at(&self, offset: usize, message: impl Into<String>) -> CompileError {
        let before = self.source.get(..offset).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        CompileError { line, column, message: message.into() }
    }

    /// An error at a name of the text.
    fn near(&self, name: &str, message: impl Into<String>) -> CompileError {
        self.at(self.source.find(name).unwrap_or(0), message)
    }

    fn lower(&mut self, tree: &IdedExpr, depth: usize) -> Lowered {
        self.nodes += 1;
        if depth > DEPTH_MAX || self.nodes > NODES_MAX {
            let message =
                format!("it is too complex: at most {NODES_MAX} parts, nested {DEPTH_MAX} deep");
            return Err(self.at(0, message));
        }
        match &tree.expr {
            Expr::Literal(literal) => Ok(Node::Literal(constant(literal))),
            Expr::Ident(name) => self.identifier(name),
            Expr::Select(select) => {
                let operand = Box::new(self.lower(&select.operand, depth + 1)?);
                let field = select.field.clone();
                Ok(if select.test {
                    Node::Has(operand, field)
                } else {
                    Node::Member(operand, field)
                })
            }
            Expr::List(list) => {
                let lower = |element| self.lower(element, depth + 1);
                list.elements.iter().map(lower).collect::<Result<_, _>>().map(Node::List)
            }
            Expr::Call(call) => self.call(call, depth),
            Expr::Comprehension(fold) => self.fold(fold, depth),
            Expr::Map(_) => Err(self.near("{", "maps cannot be written in a filter")),
            Expr::Struct(_) => Err(self.near("{", "messages cannot be written in a filter")),
            Expr::Unspecified => Err(self.at(0, "it is empty")),
        }
    }

    fn identifier(&mut self, name: &str) -> Lowered {
        if let Some(at) = self.locals.iter().rposition(|local| local == name) {
            return Ok(Node::Local(at));
        }
        Ok(Node::Variable(match name {
            "key" => Variable::Key,
            "value" => {
                self.reads_value = true;
                Variable::Value
            }
            "headers" => Variable::Headers,
            "topic" => Variable::Topic,
            "partition" => Variable::Partition,
            "offset" => Variable::Offset,
            "timestamp" => Variable::Timestamp,
            _ => {
                let message = format!(
                    "'{name}' is none of key, value, headers, topic, partition, offset, timestamp"
                );
                return Err(self.near(name, message));
            }
        }))
    }

    fn call(&mut self, call: &CallExpr, depth: usize) -> Lowered {
        let name = call.func_name.as_str();
        let mut operands = Vec::new();
        for operand in call.target.as_deref().into_iter().chain(&call.args) {
            operands.push(self.lower(operand, depth + 1)?);
        }
        if let Some(node) = operator(name, &mut operands) {
            return Ok(node);
        }
        match (name, operands.as_slice()) {
            ("matches", [_, pattern]) => {
                let Node::Literal(Value::Text(pattern)) = pattern else {
                    return Err(self.near(name, "the pattern of matches has to be a literal"));
                };
                let built = regex::RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build();
                let regex = built.map_err(|error| {
                    let message = format!("'{pattern}' is not a pattern: {error}");
                    self.near(name, message.replace('\n', " "))
                })?;
                let subject = operands.swap_remove(0);
                Ok(Node::Matches(Box::new(subject), Box::new(regex)))
            }
            ("timestamp", [Node::Literal(Value::Text(text))]) => match parse_rfc3339_ms(text) {
                Some(ms) => Ok(Node::Literal(Value::Int(ms))),
                None => Err(self.near(text, format!("'{text}' is not an RFC 3339 timestamp"))),
            },
            _ => match Function::find(name, operands.len()) {
                Some(function) => Ok(Node::Call(function, operands)),
                None => {
                    let count = operands.len();
                    let message = format!("there is no function '{name}' of {count} operands");
                    Err(self.near(name, message))
                }
            },
        }
    }

    fn fold(&mut self, fold: &ComprehensionExpr, depth: usize) -> Lowered {
        if fold.iter_var2.is_some() {
            return Err(self.near(&fold.iter_var, "macros take one variable"));
        }
        let range = self.lower(&fold.iter_range, depth + 1)?;
        let start = self.lower(&fold.accu_init, depth + 1)?;
        self.locals.push(fold.iter_var.clone());
        self.locals.push(fold.accu_var.clone());
        let condition = self.lower(&fold.loop_cond, depth + 1)?;
        let step = self.lower(&fold.loop_step, depth + 1)?;
        let result = self.lower(&fold.result, depth + 1)?;
        self.locals.truncate(self.locals.len().saturating_sub(2));
        Ok(Node::Fold(Box::new(Fold { range, start, condition, step, result })))
    }
}

fn operator(name: &str, operands: &mut Vec<Node>) -> Option<Node> {
    let binary = match name {
        operators::ADD => Binary::Add,
        operators::SUBSTRACT => Binary::Subtract,
        operators::MULTIPLY => Binary::Multiply,
        operators::DIVIDE => Binary::Divide,
        operators::MODULO => Binary::Modulo,
        operators::EQUALS => Binary::Equal,
        operators::NOT_EQUALS => Binary::NotEqual,
        operators::LESS => Binary::Less,
        operators::LESS_EQUALS => Binary::LessEqual,
        operators::GREATER => Binary::Greater,
        operators::GREATER_EQUALS => Binary::GreaterEqual,
        operators::IN => Binary::In,
        operators::INDEX => Binary::Index,
        _ => return unusual_operator(name, operands),
    };
    let pair: [Node; 2] = std::mem::take(operands).try_into().ok()?;
    Some(Node::Binary(binary, Box::new(pair)))
}

fn unusual_operator(name: &str, operands: &mut Vec<Node>) -> Option<Node> {
    match name {
        operators::LOGICAL_AND => {
            Some(Node::And(Box::new(std::mem::take(operands).try_into().ok()?)))
        }
        operators::LOGICAL_OR => {
            Some(Node::Or(Box::new(std::mem::take(operands).try_into().ok()?)))
        }
        operators::CONDITIONAL => {
            Some(Node::Choose(Box::new(std::mem::take(operands).try_into().ok()?)))
        }
        operators::LOGICAL_NOT => operands.pop().map(Box::new).map(Node::Not),
        operators::NEGATE => operands.pop().map(Box::new).map(Node::Negate),
        operators::NOT_STRICTLY_FALSE => operands.pop().map(Box::new).map(Node::NotStrictlyFalse),
        _ => None,
    }
}

fn constant(literal: &LiteralValue) -> Value<'static> {
    match literal {
        LiteralValue::Null => Value::Null,
        LiteralValue::Boolean(is) => Value::Bool(*is.inner()),
        LiteralValue::Int(number) => Value::Int(*number.inner()),
        LiteralValue::UInt(number) => Value::Uint(*number.inner()),
        LiteralValue::Double(number) => Value::Double(*number.inner()),
        LiteralValue::String(text) => Value::Text(Cow::Owned(text.inner().to_owned())),
        LiteralValue::Bytes(bytes) => Value::Bytes(Cow::Owned(bytes.inner().to_vec())),
    }
}
