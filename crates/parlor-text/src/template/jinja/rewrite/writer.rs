//! Templates with the operators that Python defines otherwise as calls of functions.
//!
//! The engine's operators cannot be replaced: its `%` formats no text, its `~` spells floats as Rust does, its `<`
//! compares what Python refuses to compare, and its loops accept `None`. So a template is parsed by the engine's own
//! parser, and written out again with those operators as calls of what `operators.rs` defines; lines stay where they
//! are, for errors. The parser's tree has no stable interface, which is why the engine's version is pinned.

use minijinja::machinery::ast::{
    BinOpKind, CallArg, CompareOpKind, Expr, ForLoop, Macro, Set, Stmt, UnaryOpKind,
};
use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::operators::{
    CHECKED_SLICE, CONCAT, CONTAINED, GREATER, GREATER_EQUAL, ITERABLE, LESS, LESS_EQUAL, MODULO,
};
use super::ownership::{LEAVE, LEAVE_OVER, OWNER};

/// Whether the output says which message each part of it belongs to ([`super::ownership`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    Unmarked,
    Marked,
}

/// The template `source` for an engine with default syntax and [`super::operators`].
pub(crate) fn rewritten(source: &str, syntax: SyntaxConfig, ownership: Ownership) -> Result<String, Error> {
    let tree = parse(source, "chat_template", syntax)?;
    let out = String::with_capacity(source.len() * 2);
    let mut writer = Writer { out, line: 1, ownership, loops: 0, open_loops: Vec::new() };
    writer.statement(&tree)?;
    Ok(writer.out)
}

struct OpenLoop {
    number: usize,
    /// The name of its item.
    item: String,
    /// Whether the item is an index by which messages are taken.
    by_index: bool,
}

struct Writer {
    out: String,
    /// The line of the template that is being written.
    line: u32,
    ownership: Ownership,
    /// Loops so far.
    loops: usize,
    /// Loops that are open.
    open_loops: Vec<OpenLoop>,
}

impl Writer {
    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// Begins a tag on the line on which it begins in the template.
    fn open(&mut self, tag: &str, line: u16) {
        self.put(tag);
        while self.line < u32::from(line) {
            self.out.push('\n');
            self.line += 1;
        }
        self.put(" ");
    }

    fn body(&mut self, statements: &[Stmt<'_>]) -> Result<(), Error> {
        statements.iter().try_for_each(|statement| self.statement(statement))
    }

    fn end(&mut self, tag: &str) {
        self.put("{% ");
        self.put(tag);
        self.put(" %}");
    }

    fn statement(&mut self, statement: &Stmt<'_>) -> Result<(), Error> {
        match statement {
            Stmt::Template(node) => self.body(&node.children)?,
            Stmt::EmitExpr(node) => {
                self.open("{{", node.span().start_line);
                self.expression(&node.expr)?;
                self.put(" }}");
            }
            Stmt::EmitRaw(node) => {
                self.put("{{ ");
                self.text(node.raw);
                self.put(" }}");
            }
            Stmt::ForLoop(node) => self.for_loop(node, node.span().start_line)?,
            Stmt::IfCond(node) => {
                self.open("{% if", node.span().start_line);
                self.expression(&node.expr)?;
                self.put(" %}");
                self.body(&node.true_body)?;
                self.alternative(&node.false_body)?;
                self.end("endif");
            }
            Stmt::WithBlock(node) => {
                self.open("{% with", node.span().start_line);
                for (index, (target, value)) in node.assignments.iter().enumerate() {
                    self.put(if index > 0 { ", " } else { "" });
                    self.target(target)?;
                    self.put(" = ");
                    self.expression(value)?;
                }
                self.put(" %}");
                self.body(&node.body)?;
                self.end("endwith");
            }
            Stmt::Set(node) => {
                self.open("{% set", node.span().start_line);
                self.target(&node.target)?;
                self.put(" = ");
                self.expression(&node.expr)?;
                self.put(" %}");
                self.taken_by_index(node);
            }
            Stmt::SetBlock(node) => {
                self.open("{% set", node.span().start_line);
                self.target(&node.target)?;
                if let Some(filter) = &node.filter {
                    self.put(" | ");
                    self.expression(filter)?;
                }
                self.put(" %}");
                self.body(&node.body)?;
                self.end("endset");
            }
            Stmt::AutoEscape(node) => self.body(&node.body)?,
            Stmt::FilterBlock(node) => {
                self.open("{% filter", node.span().start_line);
                self.expression(&node.filter)?;
                self.put(" %}");
                self.body(&node.body)?;
                self.end("endfilter");
            }
            Stmt::Block(node) => {
                self.open("{% block", node.span().start_line);
                self.put(node.name);
                self.put(" %}");
                self.body(&node.body)?;
                self.end("endblock");
            }
            Stmt::Macro(node) => {
                self.open("{% macro", node.span().start_line);
                self.put(node.name);
                self.signature(node)?;
                self.put(" %}");
                self.body(&node.body)?;
                self.end("endmacro");
            }
            Stmt::CallBlock(node) => {
                self.open("{% call", node.span().start_line);
                self.signature(&node.macro_decl)?;
                self.put(" ");
                self.callee(&node.call.expr)?;
                self.arguments(&node.call.args)?;
                self.put(" %}");
                self.body(&node.macro_decl.body)?;
                self.end("endcall");
            }
            Stmt::Continue(node) => self.open("{% continue %}{#", node.span().start_line),
            Stmt::Break(node) => self.open("{% break %}{#", node.span().start_line),
            Stmt::Do(_) => return Err(absent("do")),
            Stmt::Import(_) | Stmt::FromImport(_) => return Err(absent("import")),
            Stmt::Extends(_) => return Err(absent("extends")),
            Stmt::Include(_) => return Err(absent("include")),
        }
        if matches!(statement, Stmt::Continue(_) | Stmt::Break(_)) {
            self.put("#}");
        }
        Ok(())
    }

    /// `{% set message = messages[i] %}` within `{% for i in range(...) %}`: a loop over messages as well.
    fn taken_by_index(&mut self, node: &Set<'_>) {
        let (Expr::Var(name), Expr::GetItem(item)) = (&node.target, &node.expr) else { return };
        let Expr::Var(index) = &item.subscript_expr else { return };
        if let Some(own) = self.open_loops.iter_mut().rev().find(|own| own.item == index.id) {
            own.by_index = true;
            let number = own.number;
            self.put(&format!("{{{{ {OWNER}({number}, {}) }}}}", name.id));
        }
    }

    fn for_loop(&mut self, node: &ForLoop<'_>, line: u16) -> Result<(), Error> {
        let number = self.loops;
        self.loops += 1;
        self.open("{% for", line);
        self.target(&node.target)?;
        self.put(" in ");
        self.expression(&node.iter)?;
        self.put("|");
        self.put(ITERABLE);
        if let Some(filter) = &node.filter_expr {
            self.put(" if ");
            self.expression(filter)?;
        }
        self.put(if node.recursive { " recursive %}" } else { " %}" });
        let item = match &node.target {
            Expr::Var(item) if self.ownership == Ownership::Marked => Some(item.id),
            _ => None,
        };
        if let Some(item) = item {
            self.put(&format!("{{{{ {OWNER}({number}, {item}) }}}}"));
            self.open_loops.push(OpenLoop { number, item: item.to_owned(), by_index: false });
        }
        self.body(&node.body)?;
        let by_index = item.and_then(|_| self.open_loops.pop()).is_some_and(|own| own.by_index);
        if !node.else_body.is_empty() {
            self.end("else");
            self.body(&node.else_body)?;
        }
        self.end("endfor");
        if by_index {
            self.put(&format!("{{{{ {LEAVE}({number}) }}}}"));
        } else if item.is_some() {
            self.put(&format!("{{{{ {LEAVE_OVER}({number}, "));
            self.expression(&node.iter)?;
            self.put(") }}");
        }
        Ok(())
    }

    /// `{% else %}`, or `{% elif %}` where nothing else stands in it.
    fn alternative(&mut self, statements: &[Stmt<'_>]) -> Result<(), Error> {
        match statements {
            [] => Ok(()),
            [Stmt::IfCond(node)] => {
                self.open("{% elif", node.span().start_line);
                self.expression(&node.expr)?;
                self.put(" %}");
                self.body(&node.true_body)?;
                self.alternative(&node.false_body)
            }
            _ => {
                self.end("else");
                self.body(statements)
            }
        }
    }

    /// What is assigned to.
    fn target(&mut self, target: &Expr<'_>) -> Result<(), Error> {
        let items = match target {
            Expr::Var(node) => {
                self.put(node.id);
                return Ok(());
            }
            Expr::GetAttr(node) => {
                self.target(&node.expr)?;
                self.put(".");
                self.put(node.name);
                return Ok(());
            }
            Expr::List(node) => &node.items,
            Expr::Tuple(node) => &node.items,
            other => return self.expression(other),
        };
        self.put("(");
        for item in items {
            self.target(item)?;
            self.put(", ");
        }
        self.put(")");
        Ok(())
    }

    fn signature(&mut self, node: &Macro<'_>) -> Result<(), Error> {
        self.put("(");
        let required = node.args.len().saturating_sub(node.defaults.len());
        for (index, argument) in node.args.iter().enumerate() {
            self.put(if index > 0 { ", " } else { "" });
            self.target(argument)?;
            if let Some(default) = index.checked_sub(required).and_then(|at| node.defaults.get(at)) {
                self.put(" = ");
                self.expression(default)?;
            }
        }
        self.put(")");
        Ok(())
    }

    fn call(&mut self, function: &str, arguments: &[&Expr<'_>]) -> Result<(), Error> {
        self.put(function);
        self.put("(");
        for (index, argument) in arguments.iter().enumerate() {
            self.put(if index > 0 { ", " } else { "" });
            self.expression(argument)?;
        }
        self.put(")");
        Ok(())
    }

    fn infix(&mut self, left: &Expr<'_>, operator: &str, right: &Expr<'_>) -> Result<(), Error> {
        self.put("(");
        self.expression(left)?;
        self.put(operator);
        self.expression(right)?;
        self.put(")");
        Ok(())
    }

    fn expression(&mut self, expression: &Expr<'_>) -> Result<(), Error> {
        match expression {
            Expr::Var(node) => self.put(node.id),
            Expr::Const(node) => self.constant(&node.value)?,
            Expr::Slice(node) => {
                self.put("(");
                self.expression(&node.expr)?;
                self.put("|");
                self.put(CHECKED_SLICE);
                self.put(")[");
                for (index, bound) in [&node.start, &node.stop, &node.step].into_iter().enumerate() {
                    self.put(if index > 0 { ":" } else { "" });
                    if let Some(bound) = bound {
                        self.expression(bound)?;
                    }
                }
                self.put("]");
            }
            Expr::UnaryOp(node) => {
                self.put(match node.op {
                    UnaryOpKind::Not => "(not ",
                    UnaryOpKind::Neg => "(-",
                });
                self.expression(&node.expr)?;
                self.put(")");
            }
            Expr::BinOp(node) => {
                let (left, right) = (&node.left, &node.right);
                match node.op {
                    BinOpKind::Rem => self.call(MODULO, &[left, right])?,
                    BinOpKind::Concat => self.call(CONCAT, &[left, right])?,
                    BinOpKind::Lt => self.call(LESS, &[left, right])?,
                    BinOpKind::Lte => self.call(LESS_EQUAL, &[left, right])?,
                    BinOpKind::Gt => self.call(GREATER, &[left, right])?,
                    BinOpKind::Gte => self.call(GREATER_EQUAL, &[left, right])?,
                    BinOpKind::Eq => self.infix(left, " == ", right)?,
                    BinOpKind::Ne => self.infix(left, " != ", right)?,
                    BinOpKind::ScAnd => self.infix(left, " and ", right)?,
                    BinOpKind::ScOr => self.infix(left, " or ", right)?,
                    BinOpKind::Add => self.infix(left, " + ", right)?,
                    BinOpKind::Sub => self.infix(left, " - ", right)?,
                    BinOpKind::Mul => self.infix(left, " * ", right)?,
                    BinOpKind::Div => self.infix(left, " / ", right)?,
                    BinOpKind::FloorDiv => self.infix(left, " // ", right)?,
                    BinOpKind::Pow => self.infix(left, " ** ", right)?,
                    BinOpKind::In => self.call(CONTAINED, &[left, right])?,
                }
            }
            Expr::Compare(node) => {
                self.put("(");
                let mut left = &node.expr;
                for (index, step) in node.ops.iter().enumerate() {
                    self.put(if index > 0 { " and " } else { "" });
                    let right = &step.expr;
                    match step.op {
                        CompareOpKind::Eq => self.infix(left, " == ", right)?,
                        CompareOpKind::Ne => self.infix(left, " != ", right)?,
                        CompareOpKind::In => self.call(CONTAINED, &[left, right])?,
                        CompareOpKind::NotIn => {
                            self.put("not ");
                            self.call(CONTAINED, &[left, right])?;
                        }
                        CompareOpKind::Lt => self.call(LESS, &[left, right])?,
                        CompareOpKind::Lte => self.call(LESS_EQUAL, &[left, right])?,
                        CompareOpKind::Gt => self.call(GREATER, &[left, right])?,
                        CompareOpKind::Gte => self.call(GREATER_EQUAL, &[left, right])?,
                    }
                    left = right;
                }
                self.put(")");
            }
            Expr::IfExpr(node) => {
                self.put("(");
                self.expression(&node.true_expr)?;
                self.put(" if ");
                self.expression(&node.test_expr)?;
                if let Some(otherwise) = &node.false_expr {
                    self.put(" else ");
                    self.expression(otherwise)?;
                }
                self.put(")");
            }
            Expr::Filter(node) => {
                // Without a value: the filter of a block.
                if let Some(value) = &node.expr {
                    let of_block = is_block_filter(value);
                    self.put(if of_block { "" } else { "(" });
                    self.expression(value)?;
                    self.put(if of_block { "" } else { ")" });
                    self.put("|");
                }
                self.put(node.name);
                self.arguments(&node.args)?;
            }
            Expr::Test(node) => {
                self.put("((");
                self.expression(&node.expr)?;
                self.put(") is ");
                self.put(node.name);
                self.arguments(&node.args)?;
                self.put(")");
            }
            Expr::GetAttr(node) => {
                self.primary(&node.expr)?;
                self.put(".");
                self.put(node.name);
            }
            Expr::GetItem(node) => {
                self.primary(&node.expr)?;
                self.put("[");
                self.expression(&node.subscript_expr)?;
                self.put("]");
            }
            Expr::Call(node) => {
                self.callee(&node.expr)?;
                self.arguments(&node.args)?;
            }
            Expr::List(node) => self.items("[", &node.items, "]")?,
            Expr::Tuple(node) => self.items("(", &node.items, ")")?,
            Expr::Map(node) => {
                self.put("{");
                for (key, value) in node.keys.iter().zip(&node.values) {
                    self.expression(key)?;
                    self.put(": ");
                    self.expression(value)?;
                    self.put(", ");
                }
                self.put("}");
            }
        }
        Ok(())
    }

    fn items(&mut self, open: &str, items: &[Expr<'_>], close: &str) -> Result<(), Error> {
        self.put(open);
        for item in items {
            self.expression(item)?;
            self.put(", ");
        }
        self.put(close);
        Ok(())
    }

    /// What an attribute, a subscript or arguments follow.
    fn primary(&mut self, expression: &Expr<'_>) -> Result<(), Error> {
        if matches!(expression, Expr::Var(_)) {
            return self.expression(expression);
        }
        self.put("(");
        self.expression(expression)?;
        self.put(")");
        Ok(())
    }

    fn callee(&mut self, expression: &Expr<'_>) -> Result<(), Error> {
        match expression {
            Expr::GetAttr(_) => self.expression(expression),
            other => self.primary(other),
        }
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>]) -> Result<(), Error> {
        self.put("(");
        for (index, argument) in arguments.iter().enumerate() {
            self.put(if index > 0 { ", " } else { "" });
            let value = match argument {
                CallArg::Pos(value) => value,
                CallArg::Kwarg(name, value) => {
                    self.put(name);
                    self.put("=");
                    value
                }
                CallArg::PosSplat(value) => {
                    self.put("*");
                    value
                }
                CallArg::KwargSplat(value) => {
                    self.put("**");
                    value
                }
            };
            self.expression(value)?;
        }
        self.put(")");
        Ok(())
    }

    fn constant(&mut self, value: &Value) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.put("none"),
            ValueKind::Bool => self.put(if value.is_true() { "true" } else { "false" }),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Number if super::values::is_float(value) => {
                let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
                self.put(&format!("{number:?}"));
            }
            _ => self.put(&super::spelling::repr(value)?),
        }
        Ok(())
    }

    /// A literal; line breaks are escaped, so that lines are only begun by `open`.
    fn text(&mut self, text: &str) {
        self.put("\"");
        for c in text.chars() {
            match c {
                '"' => self.put("\\\""),
                '\\' => self.put("\\\\"),
                '\n' => self.put("\\n"),
                '\r' => self.put("\\r"),
                c => self.out.push(c),
            }
        }
        self.put("\"");
    }
}

fn is_block_filter(expression: &Expr<'_>) -> bool {
    match expression {
        Expr::Filter(node) => node.expr.as_ref().is_none_or(is_block_filter),
        _ => false,
    }
}

fn absent(tag: &str) -> Error {
    Error::new(ErrorKind::SyntaxError, format!("chat templates have no `{tag}` tag"))
}
