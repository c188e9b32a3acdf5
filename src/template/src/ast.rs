//! The tree of a parsed template.

use std::sync::Arc;

use crate::lexer::Position;
use crate::value::Value;

pub(crate) type Block = Arc<Vec<Node>>;

#[derive(Debug)]
pub(crate) enum Node {
    Text(String),
    /// Prints its pipeline, unless it declares or assigns.
    Action(Pipeline),
    If(Pipeline, Block, Block),
    With(Pipeline, Block, Block),
    Range(Pipeline, Block, Block),
    Template(Position, String, Option<Pipeline>),
    Break(Position),
    Continue(Position),
}

#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) position: Position,
    /// Variables that take the value, with the dollar.
    pub(crate) variables: Vec<String>,
    /// `=` rather than `:=`.
    pub(crate) assigns: bool,
    pub(crate) commands: Vec<Command>,
}

#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) operands: Vec<Operand>,
}

#[derive(Debug)]
pub(crate) struct Operand {
    pub(crate) position: Position,
    pub(crate) term: Term,
    /// `.a.b` behind the term.
    pub(crate) fields: Vec<String>,
}

#[derive(Debug)]
pub(crate) enum Term {
    Dot,
    /// `.a` at the start: a field of the dot. The names are in `Operand::fields`.
    DotField,
    Variable(String),
    Function(String),
    Constant(Value),
    Nil,
    Nested(Box<Pipeline>),
}

/// Adds the members of the data that the nodes name; `None` when they may see all of it.
pub(crate) fn collect_fields(nodes: &[Node], out: &mut Vec<String>) -> Option<()> {
    for node in nodes {
        match node {
            Node::Text(_) | Node::Break(_) | Node::Continue(_) => {}
            Node::Action(pipeline) => pipeline_fields(pipeline, out)?,
            Node::If(pipeline, body, otherwise) => {
                pipeline_fields(pipeline, out)?;
                collect_fields(body, out)?;
                collect_fields(otherwise, out)?;
            }
            Node::With(..) | Node::Range(..) | Node::Template(..) => return None,
        }
    }
    Some(())
}

fn pipeline_fields(pipeline: &Pipeline, out: &mut Vec<String>) -> Option<()> {
    for operand in pipeline.commands.iter().flat_map(|c| &c.operands) {
        match &operand.term {
            Term::DotField => out.extend(operand.fields.first().cloned()),
            Term::Variable(name) if name == "$" => out.push(operand.fields.first()?.clone()),
            Term::Dot => return None,
            Term::Nested(nested) => pipeline_fields(nested, out)?,
            Term::Variable(_) | Term::Function(_) | Term::Constant(_) | Term::Nil => {}
        }
    }
    Some(())
}
