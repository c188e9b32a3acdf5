//! The interpreter.

use std::sync::Arc;

use crate::ast::{Block, Command, Node, Operand, Pipeline, Term};
use crate::builtins;
use crate::functions::Functions;
use crate::lexer::Position;
use crate::template::{Escape, Limits, Template, TemplateError};
use crate::value::Value;

const CALL_DEPTH_MAX: u32 = 64;

type Result<T> = std::result::Result<T, TemplateError>;

enum Flow {
    Next,
    Break,
    Continue,
}

struct Interpreter<'a> {
    template: &'a Template,
    functions: &'a dyn Functions,
    limits: Limits,
    escape: Escape,
    out: String,
    steps: u32,
    depth: u32,
    variables: Vec<(String, Value)>,
}

pub(crate) fn render(
    template: &Template,
    data: &Value,
    variables: &[(&str, Value)],
    functions: &dyn Functions,
    limits: Limits,
    escape: Escape,
) -> Result<String> {
    let mut interpreter = Interpreter {
        template,
        functions,
        limits,
        escape,
        out: String::new(),
        steps: 0,
        depth: 0,
        variables: Vec::with_capacity(variables.len() + 1),
    };
    interpreter.variables.push(("$".to_owned(), data.clone()));
    interpreter.variables.extend(variables.iter().map(|(n, v)| ((*n).to_owned(), v.clone())));
    interpreter.block(&template.root, data)?;
    Ok(interpreter.out)
}

impl Interpreter<'_> {
    fn step(&mut self, position: Position) -> Result<()> {
        self.steps += 1;
        if self.steps > self.limits.steps {
            return Err(position.error(format!("template takes more than {} steps", self.limits.steps)));
        }
        Ok(())
    }

    fn write(&mut self, text: &str, position: Position) -> Result<()> {
        if self.out.len() + text.len() > self.limits.output_bytes {
            return Err(position.error(format!("output is longer than {} bytes", self.limits.output_bytes)));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn block(&mut self, nodes: &Block, dot: &Value) -> Result<Flow> {
        for node in nodes.iter() {
            match self.node(node, dot)? {
                Flow::Next => {}
                other => return Ok(other),
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow> {
        match node {
            Node::Text(text) => self.write(text, Position { line: 1, col: 1 })?,
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.print(&value, pipeline.position)?;
                }
            }
            Node::If(pipeline, body, otherwise) => {
                let scope = self.variables.len();
                let flow = if self.pipeline(pipeline, dot)?.truth() {
                    self.block(body, dot)
                } else {
                    self.block(otherwise, dot)
                };
                self.variables.truncate(scope);
                return flow;
            }
            Node::With(pipeline, body, otherwise) => {
                let scope = self.variables.len();
                let value = self.pipeline(pipeline, dot)?;
                let flow = if value.truth() { self.block(body, &value) } else { self.block(otherwise, dot) };
                self.variables.truncate(scope);
                return flow;
            }
            Node::Range(pipeline, body, otherwise) => {
                let scope = self.variables.len();
                self.range(pipeline, body, otherwise, dot)?;
                self.variables.truncate(scope);
            }
            Node::Template(position, name, argument) => {
                let data = match argument {
                    Some(pipeline) => self.pipeline(pipeline, dot)?,
                    None => Value::Nil,
                };
                self.template_call(*position, name, &data)?;
            }
            Node::Break(position) => {
                self.step(*position)?;
                return Ok(Flow::Break);
            }
            Node::Continue(position) => {
                self.step(*position)?;
                return Ok(Flow::Continue);
            }
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, value: &Value, position: Position) -> Result<()> {
        match (value, self.escape) {
            (Value::String(text) | Value::Safe(text), Escape::None) | (Value::Safe(text), Escape::Html) => {
                self.write(text, position)
            }
            (other, Escape::None) => self.write(&other.to_text(), position),
            (other, Escape::Html) => self.write(&builtins::html_escape(&other.to_text()), position),
        }
    }

    fn template_call(&mut self, position: Position, name: &str, data: &Value) -> Result<()> {
        let Some(body) = self.template.definitions.get(name) else {
            return Err(position.error(format!("template {name:?} not defined")));
        };
        self.depth += 1;
        if self.depth > CALL_DEPTH_MAX {
            return Err(position.error(format!("templates call each other deeper than {CALL_DEPTH_MAX}")));
        }
        let body = Arc::clone(body);
        let outer = std::mem::replace(&mut self.variables, vec![("$".to_owned(), data.clone())]);
        self.block(&body, data)?;
        self.variables = outer;
        self.depth -= 1;
        Ok(())
    }

    fn range(&mut self, pipeline: &Pipeline, body: &Block, otherwise: &Block, dot: &Value) -> Result<()> {
        let mut value = self.commands(pipeline, dot)?;
        if let Value::Object(object) = &value
            && let Some(items) = object.items()
        {
            value = items;
        }
        let pairs: Box<dyn Iterator<Item = (Value, Value)>> = match &value {
            Value::List(list) => {
                let list = Arc::clone(list);
                Box::new((0..list.len()).map(move |i| (index_value(i), list[i].clone())))
            }
            Value::Map(map) => Box::new(
                map.entries.iter().map(|(k, v)| (Value::from(k.as_str()), v.clone())).collect::<Vec<_>>().into_iter(),
            ),
            Value::Int(n) => Box::new((0..(*n).max(0)).map(|i| (Value::Int(i), Value::Int(i)))),
            Value::Nil => Box::new(std::iter::empty()),
            other => {
                return Err(pipeline.position.error(format!("range can't iterate over {}", other.to_text())));
            }
        };
        let scope = self.variables.len();
        let mut any = false;
        for (key, item) in pairs {
            any = true;
            self.step(pipeline.position)?;
            match pipeline.variables.as_slice() {
                [] => {}
                [only] => self.set(only, item.clone(), pipeline.assigns),
                [first, second, ..] => {
                    self.set(first, key, pipeline.assigns);
                    self.set(second, item.clone(), pipeline.assigns);
                }
            }
            let flow = self.block(body, &item)?;
            self.variables.truncate(scope);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        if !any {
            self.block(otherwise, dot)?;
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: Value, assigns: bool) {
        if assigns && let Some(slot) = self.variables.iter_mut().rev().find(|(n, _)| n == name) {
            slot.1 = value;
            return;
        }
        self.variables.push((name.to_owned(), value));
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value> {
        let value = self.commands(pipeline, dot)?;
        for name in &pipeline.variables {
            self.set(name, value.clone(), pipeline.assigns);
        }
        Ok(value)
    }

    fn commands(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value> {
        let mut last = None;
        for command in &pipeline.commands {
            self.step(pipeline.position)?;
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or_default())
    }

    fn command(&mut self, command: &Command, dot: &Value, piped: Option<Value>) -> Result<Value> {
        let Some((first, rest)) = command.operands.split_first() else {
            return Ok(Value::Nil);
        };
        if let Term::Function(name) = &first.term {
            let value = self.function(first.position, name, rest, dot, piped)?;
            return self.fields(first, value, &first.fields, Vec::new());
        }
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(piped);
        if matches!(first.term, Term::Nil) {
            return Err(first.position.error("nil is not a command"));
        }
        if first.fields.is_empty() {
            if !arguments.is_empty() {
                return Err(first.position.error("can't give argument to non-function"));
            }
            return self.term(first, dot);
        }
        let base = self.term(first, dot)?;
        self.fields(first, base, &first.fields, arguments)
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value> {
        let base = self.term(operand, dot)?;
        self.fields(operand, base, &operand.fields, Vec::new())
    }

    fn term(&mut self, operand: &Operand, dot: &Value) -> Result<Value> {
        match &operand.term {
            Term::Dot | Term::DotField => Ok(dot.clone()),
            Term::Variable(name) => match self.variables.iter().rev().find(|(n, _)| n == name) {
                Some((_, value)) => Ok(value.clone()),
                None => Err(operand.position.error(format!("undefined variable: {name}"))),
            },
            Term::Function(name) => self.function(operand.position, name, &[], dot, None),
            Term::Constant(value) => Ok(value.clone()),
            Term::Nil => Ok(Value::Nil),
            Term::Nested(pipeline) => self.pipeline(pipeline, dot),
        }
    }

    /// Follows `.a.b`; the arguments belong to the last name.
    fn fields(&mut self, operand: &Operand, base: Value, names: &[String], arguments: Vec<Value>) -> Result<Value> {
        let mut value = base;
        let mut arguments = Some(arguments);
        for (i, name) in names.iter().enumerate() {
            self.step(operand.position)?;
            let given = if i + 1 == names.len() { arguments.take().unwrap_or_default() } else { Vec::new() };
            value = field(&value, name, &given).map_err(|msg| operand.position.error(msg))?;
        }
        Ok(value)
    }

    fn function(
        &mut self,
        position: Position,
        name: &str,
        operands: &[Operand],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value> {
        self.step(position)?;
        let own = self.functions.has(name);
        if !own && (name == "and" || name == "or") {
            return self.short_circuit(position, name == "or", operands, dot, piped);
        }
        let mut arguments = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(piped);
        if !own && name == "tmpl" {
            return self.tmpl(position, &arguments);
        }
        let result = match self.functions.call(name, &arguments) {
            Some(result) => result,
            None => builtins::call(name, &arguments).unwrap_or_else(|| Err(format!("function {name:?} not defined"))),
        };
        let value = result.map_err(|msg| position.error(format!("error calling {name}: {msg}")))?;
        if let Some(text) = value.as_str()
            && text.len() > self.limits.output_bytes
        {
            return Err(position.error(format!("{name} made more than {} bytes", self.limits.output_bytes)));
        }
        Ok(value)
    }

    fn short_circuit(
        &mut self,
        position: Position,
        until: bool,
        operands: &[Operand],
        dot: &Value,
        piped: Option<Value>,
    ) -> Result<Value> {
        let mut last = None;
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if value.truth() == until {
                return Ok(value);
            }
            last = Some(value);
        }
        piped.or(last).ok_or_else(|| position.error("wrong number of args: want at least 1 got 0"))
    }

    /// Prometheus' `tmpl`: the output of a template named at run time.
    fn tmpl(&mut self, position: Position, arguments: &[Value]) -> Result<Value> {
        let [name, data] = arguments else {
            return Err(position.error(format!("wrong number of args for tmpl: want 2 got {}", arguments.len())));
        };
        let name = name.as_str().unwrap_or_default().to_owned();
        let before = self.out.len();
        self.template_call(position, &name, data)?;
        Ok(Value::Safe(Arc::from(self.out.split_off(before))))
    }
}

fn index_value(i: usize) -> Value {
    Value::Int(i64::try_from(i).unwrap_or(i64::MAX))
}

fn field(value: &Value, name: &str, arguments: &[Value]) -> std::result::Result<Value, String> {
    let found = match value {
        Value::Map(map) if arguments.is_empty() => return Ok(map.get(name)),
        Value::Object(object) => {
            // Methods before members, as in Go.
            match object.call(name, arguments) {
                None if arguments.is_empty() => object.field(name).map(Ok),
                called => called,
            }
        }
        Value::Nil => return Err(format!("nil pointer evaluating interface {{}}.{name}")),
        _ => None,
    };
    match found {
        Some(Ok(value)) => Ok(value),
        Some(Err(msg)) => Err(format!("error calling {name}: {msg}")),
        None if !arguments.is_empty() => Err(format!("{name} has arguments but cannot be invoked as function")),
        None => Err(format!("can't evaluate field {name} in type {}", value.type_name())),
    }
}
