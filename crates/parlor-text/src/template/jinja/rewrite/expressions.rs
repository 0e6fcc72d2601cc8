//! Expressions, with the operators that Python defines otherwise as calls.

use minijinja::machinery::ast::{BinOpKind, CallArg, CompareOpKind, Expr, UnaryOpKind};
use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::writer::Writer;
use crate::template::jinja::builtins::operators::{
    CHECKED_SLICE, CONCAT, CONTAINED, GREATER, GREATER_EQUAL, LESS, LESS_EQUAL, MODULO,
};
use crate::template::jinja::values::numbers::is_float;
use crate::template::jinja::values::spelling::repr;

impl Writer {
    pub(super) fn expression(&mut self, expression: &Expr<'_>) -> Result<(), Error> {
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

    /// The target of an assignment.
    pub(super) fn target(&mut self, target: &Expr<'_>) -> Result<(), Error> {
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

    fn items(&mut self, open: &str, items: &[Expr<'_>], close: &str) -> Result<(), Error> {
        self.put(open);
        for item in items {
            self.expression(item)?;
            self.put(", ");
        }
        self.put(close);
        Ok(())
    }

    /// An expression before an attribute, a subscript or arguments.
    fn primary(&mut self, expression: &Expr<'_>) -> Result<(), Error> {
        if matches!(expression, Expr::Var(_)) {
            return self.expression(expression);
        }
        self.put("(");
        self.expression(expression)?;
        self.put(")");
        Ok(())
    }

    pub(super) fn callee(&mut self, expression: &Expr<'_>) -> Result<(), Error> {
        match expression {
            Expr::GetAttr(_) => self.expression(expression),
            other => self.primary(other),
        }
    }

    pub(super) fn arguments(&mut self, arguments: &[CallArg<'_>]) -> Result<(), Error> {
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
            ValueKind::Number if is_float(value) => {
                let number = f64::try_from(value.clone()).unwrap_or(f64::NAN);
                self.put(&format!("{number:?}"));
            }
            _ => self.put(&repr(value)?),
        }
        Ok(())
    }
}

fn is_block_filter(expression: &Expr<'_>) -> bool {
    match expression {
        Expr::Filter(node) => node.expr.as_ref().is_none_or(is_block_filter),
        _ => false,
    }
}
