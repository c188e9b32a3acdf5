//! Functions that the caller gives to templates.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crate::value::Value;

/// A set of functions, consulted before Go's own.
pub trait Functions {
    /// Calls a function; `None` when there is none of the name. The error is a message without position.
    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>>;
    /// True when there is a function of the name.
    fn has(&self, name: &str) -> bool;
}

/// One function.
pub type Func = Arc<dyn Fn(&[Value]) -> Result<Value, String> + Send + Sync>;

/// Functions by name. Clones are as cheap as a map of counters.
#[derive(Clone, Default)]
pub struct FuncMap {
    functions: HashMap<String, Func>,
}

impl FuncMap {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces a function.
    pub fn add(
        &mut self,
        name: &str,
        function: impl Fn(&[Value]) -> Result<Value, String> + Send + Sync + 'static,
    ) -> &mut Self {
        self.functions.insert(name.to_owned(), Arc::new(function));
        self
    }

    /// Adds or replaces all functions of another set.
    pub fn extend(&mut self, other: &Self) -> &mut Self {
        self.functions.extend(other.functions.clone());
        self
    }
}

impl Functions for FuncMap {
    fn call(&self, name: &str, arguments: &[Value]) -> Option<Result<Value, String>> {
        self.functions.get(name).map(|f| f(arguments))
    }

    fn has(&self, name: &str) -> bool {
        self.functions.contains_key(name)
    }
}

impl fmt::Debug for FuncMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<&String> = self.functions.keys().collect();
        names.sort_unstable();
        f.debug_tuple("FuncMap").field(&names).finish()
    }
}

/// Checks the number of arguments, as Go's messages have it.
pub fn arity(name: &str, arguments: &[Value], wanted: usize) -> Result<(), String> {
    if arguments.len() == wanted {
        return Ok(());
    }
    Err(format!("wrong number of args for {name}: want {wanted} got {}", arguments.len()))
}

/// The text of an argument; anything but a text is an error.
pub fn text<'a>(name: &str, arguments: &'a [Value], at: usize) -> Result<&'a str, String> {
    match arguments.get(at) {
        None => Err(format!("wrong number of args for {name}: want at least {} got {}", at + 1, arguments.len())),
        Some(Value::Nil) => Ok(""),
        Some(value) => {
            value.as_str().ok_or_else(|| format!("wrong type for value; expected string; got {}", value.type_name()))
        }
    }
}
