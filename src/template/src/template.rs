//! A parsed template and its rendering.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ast::Block;
use crate::functions::Functions;
use crate::parser::{self, FunctionUse};
use crate::value::Value;
use crate::{builtins, eval, lexer};

/// Longest accepted template in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 1 << 20;

/// Why a template does not parse or render, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{line}:{col}: {msg}")]
pub struct TemplateError {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub col: u32,
    /// What is wrong.
    pub msg: String,
}

/// Bounds of one rendering.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most nodes, commands and iterations evaluated.
    pub steps: u32,
    /// Longest output, and longest text that a function may return, in bytes.
    pub output_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { steps: 100_000, output_bytes: 64 * 1024 }
    }
}

/// What becomes of values printed by actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Escape {
    /// Nothing: text/template.
    #[default]
    None,
    /// HTML special characters are escaped except in [`Value::Safe`]; unlike html/template without regard to context.
    Html,
}

/// A template with everything it defines. Clones share the trees.
#[derive(Debug, Clone)]
pub struct Template {
    name: String,
    pub(crate) root: Block,
    pub(crate) definitions: HashMap<String, Block>,
    functions: Arc<Vec<FunctionUse>>,
}

impl Template {
    /// Parses a template. Functions are looked up when it is rendered; see [`Template::check_functions`].
    pub fn parse(name: &str, source: &str) -> Result<Self, TemplateError> {
        Self::parse_with_variables(name, source, &[])
    }

    /// Parses a template in which variables (`$labels`) are defined from the start; [`Template::render_with`] must
    /// be given their values.
    pub fn parse_with_variables(name: &str, source: &str, variables: &[&str]) -> Result<Self, TemplateError> {
        if source.len() > TEMPLATE_BYTES_MAX {
            return Err(TemplateError {
                line: 1,
                col: 1,
                msg: format!("template of {} bytes is longer than {TEMPLATE_BYTES_MAX}", source.len()),
            });
        }
        let parsed = parser::parse(lexer::tokenize(source)?, variables)?;
        Ok(Self {
            name: name.to_owned(),
            root: parsed.root,
            definitions: parsed.definitions.into_iter().collect(),
            functions: Arc::new(parsed.functions),
        })
    }

    /// Parses a further text whose root is this template's new root and whose definitions join the ones at hand
    /// (later ones win, as in Go); the former root stays reachable under the former name.
    pub fn with(&self, name: &str, source: &str) -> Result<Self, TemplateError> {
        let mut next = Self::parse(name, source)?;
        for (name, body) in [(&self.name, &self.root)].into_iter().chain(&self.definitions) {
            next.definitions.entry(name.clone()).or_insert_with(|| Arc::clone(body));
        }
        let mut functions = self.functions.to_vec();
        functions.extend(next.functions.iter().cloned());
        next.functions = Arc::new(functions);
        Ok(next)
    }

    /// The template's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True when a template of the name is defined.
    pub fn defines(&self, name: &str) -> bool {
        self.definitions.contains_key(name)
    }

    /// The members of the data that the template names, sorted and unique; `None` when it may look at all of them
    /// (it uses the data as a whole, or moves the dot).
    pub fn fields(&self) -> Option<Vec<String>> {
        let mut names = Vec::new();
        crate::ast::collect_fields(&self.root, &mut names)?;
        names.sort_unstable();
        names.dedup();
        Some(names)
    }

    /// Errors at the first function that neither the caller nor the language has.
    pub fn check_functions(&self, functions: &dyn Functions) -> Result<(), TemplateError> {
        match self.functions.iter().find(|f| !functions.has(&f.name) && !builtins::has(&f.name)) {
            None => Ok(()),
            Some(f) => Err(f.position.error(format!("function {:?} not defined", f.name))),
        }
    }

    /// Renders with `data` as dot and `$`.
    pub fn render(&self, data: &Value, functions: &dyn Functions, limits: Limits) -> Result<String, TemplateError> {
        self.render_with(data, &[], functions, limits, Escape::None)
    }

    /// Renders with variables, which [`Template::parse_with_variables`] was told of, and a manner of escaping.
    pub fn render_with(
        &self,
        data: &Value,
        variables: &[(&str, Value)],
        functions: &dyn Functions,
        limits: Limits,
        escape: Escape,
    ) -> Result<String, TemplateError> {
        eval::render(self, data, variables, functions, limits, escape)
    }
}
