//! Room on the stack for trees that are deep: long chains of operators nest to the left.

use crate::ast::Expr;

/// Trees up to this depth fit what a thread of the runtime or of a test has left.
const SHALLOW: usize = 256;
/// Stack for each level of the deeper ones; evaluation takes the most.
const LEVEL_BYTES: usize = 16 << 10;

/// The longest way from the root to a leaf, without recursion.
pub(crate) fn depth(expr: &Expr) -> usize {
    let mut deepest = 0;
    let mut open = vec![(expr, 1)];
    while let Some((e, level)) = open.pop() {
        deepest = deepest.max(level);
        open.extend(e.children().into_iter().map(|c| (c, level + 1)));
    }
    deepest
}

/// Runs what recurs over a tree of this depth: of a deep one on a thread of its own.
pub(crate) fn with_room<T: Send>(depth: usize, f: impl FnOnce() -> T + Send) -> T {
    if depth <= SHALLOW {
        return f();
    }
    let (mut f, mut out) = (Some(f), None);
    std::thread::scope(|scope| {
        let run = || out = f.take().map(|f| f());
        let thread =
            std::thread::Builder::new().name("deep query".to_owned()).stack_size((depth + SHALLOW) * LEVEL_BYTES);
        let thread = thread.spawn_scoped(scope, run);
        if let Ok(thread) = thread
            && let Err(panic) = thread.join()
        {
            std::panic::resume_unwind(panic);
        }
    });
    match (out, f) {
        (Some(out), _) => out,
        // There was no thread to be had.
        (None, Some(f)) => f(),
        (None, None) => unreachable!("the function was run, or is still here"),
    }
}

/// [`with_room`] for what recurs over this expression.
pub fn with_room_for<T: Send>(expr: &Expr, f: impl FnOnce() -> T + Send) -> T {
    with_room(depth(expr), f)
}
