//! Statements, with marks around the iterations of loops over messages.

use minijinja::machinery::ast::{Expr, ForLoop, Macro, Set, Stmt};
use minijinja::{Error, ErrorKind};

use super::writer::{MessageMarks, OpenLoop, Writer};
use crate::template::jinja::builtins::operators::ITERABLE;
use crate::template::jinja::message_parts::{BEGIN_MESSAGE, END_LOOP, END_LOOP_OVER};

impl Writer {
    pub(super) fn statement(&mut self, statement: &Stmt<'_>) -> Result<(), Error> {
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
                self.message_by_index(node);
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

    fn body(&mut self, statements: &[Stmt<'_>]) -> Result<(), Error> {
        statements.iter().try_for_each(|statement| self.statement(statement))
    }

    /// Marks `{% set message = messages[i] %}` within `{% for i in range(...) %}`, which iterates over
    /// messages too.
    fn message_by_index(&mut self, node: &Set<'_>) {
        let (Expr::Var(name), Expr::GetItem(item)) = (&node.target, &node.expr) else { return };
        let Expr::Var(index) = &item.subscript_expr else { return };
        if let Some(open_loop) = self.open_loops.iter_mut().rev().find(|open_loop| open_loop.item == index.id)
        {
            open_loop.by_index = true;
            let number = open_loop.number;
            self.put(&format!("{{{{ {BEGIN_MESSAGE}({number}, {}) }}}}", name.id));
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
            Expr::Var(item) if self.marks == MessageMarks::Written => Some(item.id),
            _ => None,
        };
        if let Some(item) = item {
            self.put(&format!("{{{{ {BEGIN_MESSAGE}({number}, {item}) }}}}"));
            self.open_loops.push(OpenLoop { number, item: item.to_owned(), by_index: false });
        }
        self.body(&node.body)?;
        let by_index = item.and_then(|_| self.open_loops.pop()).is_some_and(|open_loop| open_loop.by_index);
        if !node.else_body.is_empty() {
            self.end("else");
            self.body(&node.else_body)?;
        }
        self.end("endfor");
        if by_index {
            self.put(&format!("{{{{ {END_LOOP}({number}) }}}}"));
        } else if item.is_some() {
            self.put(&format!("{{{{ {END_LOOP_OVER}({number}, "));
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
}

fn absent(tag: &str) -> Error {
    Error::new(ErrorKind::SyntaxError, format!("chat templates have no `{tag}` tag"))
}
