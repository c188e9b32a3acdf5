//! The parser: Go's syntax to `regex_syntax` expressions.
//!
//! It keeps its own stack of open groups, so that input cannot make it recurse.

use regex_syntax::hir::{self, Capture, ClassUnicode, Dot, Hir, Look, Repetition};

use super::{Error, Flags, PATTERN_BYTES_MAX, class};

const BAD_RANGE: &str = "invalid character class range";
const BAD_ESCAPE: &str = "invalid escape sequence";
const BAD_NAME: &str = "invalid named capture";
const BAD_FLAGS: &str = "invalid or unsupported Perl syntax";
const NESTED_REPEAT: &str = "invalid nested repetition operator";
const BAD_COUNT: &str = "invalid repeat count";
const OPEN_BRACKET: &str = "missing closing ]";
const OPEN_PAREN: &str = "missing closing )";
const NOTHING_REPEATED: &str = "missing argument to repetition operator";
const TRAILING_BACKSLASH: &str = "trailing backslash at end of expression";
const UNEXPECTED_PAREN: &str = "unexpected )";
const TOO_DEEP: &str = "expression nests too deeply";

/// Largest count of a repetition, and of repetitions within repetitions.
const REPEATS_MAX: u32 = 1000;
const HEIGHT_MAX: usize = 1000;
/// How much making classes may cost in all: characters that were folded, ranges that were copied.
const CLASS_WORK_MAX: usize = 1 << 24;
/// What a class of Unicode costs at least.
const UNICODE_CLASS_WORK: usize = 4096;

/// A pattern that was understood.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The expression; its groups have no names.
    pub hir: Hir,
    /// The names of the groups; the first is the whole match.
    pub names: Vec<Option<String>>,
    /// How many levels of parts within parts it has.
    pub height: usize,
}

/// Reads a pattern. Errors with the words of Go's `syntax.Parse`.
pub fn parse(pattern: &str, flags: Flags) -> Result<Parsed, Error> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(Error::too_large(pattern));
    }
    let parser =
        Parser { whole: pattern, rest: pattern, flags, open: vec![Group::default()], names: vec![None], work: 0 };
    parser.run()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Concat,
    Alternation,
    Other,
}

/// A part of the expression with what limits look at.
struct Part {
    hir: Hir,
    kind: Kind,
    height: usize,
    /// How often its innermost part is repeated by counts.
    repeats: u32,
}

impl Part {
    fn single(hir: Hir) -> Self {
        Self { hir, kind: Kind::Other, height: 1, repeats: 1 }
    }
}

/// What follows another within an alternative.
enum Item {
    /// Literal characters; an operator after them takes the last only.
    Text(String),
    Part(Part),
}

/// A parenthesis that is open, or the whole.
#[derive(Default)]
struct Group {
    /// Those that hold again when it closes.
    flags_before: Flags,
    capture: Option<u32>,
    alternatives: Vec<Part>,
    items: Vec<Item>,
}

struct Parser<'a> {
    whole: &'a str,
    rest: &'a str,
    flags: Flags,
    /// Never empty: the first is the whole.
    open: Vec<Group>,
    names: Vec<Option<String>>,
    work: usize,
}

/// What of `from` was read when `rest` is left.
fn read<'a>(from: &'a str, rest: &str) -> &'a str {
    &from[..from.len() - rest.len()]
}

fn next_char(text: &str) -> Option<(char, &str)> {
    let mut chars = text.chars();
    chars.next().map(|c| (c, chars.as_str()))
}

impl<'a> Parser<'a> {
    fn run(mut self) -> Result<Parsed, Error> {
        // Where the repetition operator begins that was read just before.
        let mut last_repeat: Option<&'a str> = None;
        while let Some((c, after)) = next_char(self.rest) {
            let before = self.rest;
            let mut repeat = None;
            match c {
                '(' if after.starts_with('?') => self.perl_group()?,
                '(' => {
                    self.rest = after;
                    self.open_capture(None);
                }
                '|' => {
                    self.rest = after;
                    self.close_alternative()?;
                }
                ')' => {
                    self.rest = after;
                    self.close_group()?;
                }
                '^' => self.look(after, Look::Start, Look::StartLF),
                '$' => self.look(after, Look::End, Look::EndLF),
                '.' => {
                    self.rest = after;
                    let dot = if self.flags.dot_all { Dot::AnyChar } else { Dot::AnyCharExceptLF };
                    self.push(Hir::dot(dot));
                }
                '[' => self.class()?,
                '*' | '+' | '?' => {
                    let (min, max) = match c {
                        '*' => (0, None),
                        '+' => (1, None),
                        _ => (0, Some(1)),
                    };
                    self.repeat(min, max, before, after, last_repeat, false)?;
                    repeat = Some(before);
                }
                '{' => match counts(before) {
                    None => {
                        self.rest = after;
                        self.literal('{')?;
                    }
                    Some((counts, after)) => {
                        let valid = counts.filter(|(min, max)| {
                            *min <= REPEATS_MAX && max.is_none_or(|max| max <= REPEATS_MAX && *min <= max)
                        });
                        let (min, max) = valid.ok_or_else(|| Error::new(BAD_COUNT, read(before, after)))?;
                        self.repeat(min, max, before, after, last_repeat, true)?;
                        repeat = Some(before);
                    }
                },
                '\\' => self.backslash()?,
                c => {
                    self.rest = after;
                    self.literal(c)?;
                }
            }
            last_repeat = repeat;
        }
        if self.open.len() > 1 {
            return Err(Error::new(OPEN_PAREN, self.whole));
        }
        let whole = self.close_alternatives()?;
        Ok(Parsed { hir: whole.hir, names: self.names, height: whole.height })
    }

    fn group(&mut self) -> &mut Group {
        self.open.last_mut().expect("the whole is always open")
    }

    fn push(&mut self, hir: Hir) {
        self.push_part(Part::single(hir));
    }

    fn push_part(&mut self, part: Part) {
        self.group().items.push(Item::Part(part));
    }

    fn literal(&mut self, c: char) -> Result<(), Error> {
        if self.flags.ignore_case
            && let Some(class) = self.cases(c)?
        {
            self.push(Hir::class(hir::Class::Unicode(class)));
            return Ok(());
        }
        match self.group().items.last_mut() {
            Some(Item::Text(text)) => text.push(c),
            _ => self.group().items.push(Item::Text(c.into())),
        }
        Ok(())
    }

    /// The other cases of a letter too; `None` when it has none.
    fn cases(&mut self, c: char) -> Result<Option<ClassUnicode>, Error> {
        if c.is_ascii() && !c.is_ascii_alphabetic() {
            return Ok(None);
        }
        self.charge(4)?;
        let class = class::folded(class::of(&[(c, c)]));
        Ok((class::count(&class) > 1).then_some(class))
    }

    fn look(&mut self, after: &'a str, text: Look, line: Look) {
        self.rest = after;
        self.push(Hir::look(if self.flags.multi_line { line } else { text }));
    }

    fn charge(&mut self, work: usize) -> Result<(), Error> {
        self.work += work;
        if self.work > CLASS_WORK_MAX {
            return Err(Error::too_large(self.whole));
        }
        Ok(())
    }

    fn check_height(&self, height: usize) -> Result<(), Error> {
        if height > HEIGHT_MAX {
            return Err(Error::new(TOO_DEEP, self.whole));
        }
        Ok(())
    }

    // Operators

    /// Repeats what was read last. `before` begins with the operator, `after` follows it; `counted`: it is `{…}`.
    fn repeat(
        &mut self,
        min: u32,
        max: Option<u32>,
        before: &'a str,
        after: &'a str,
        last_repeat: Option<&'a str>,
        counted: bool,
    ) -> Result<(), Error> {
        let lazy = after.strip_prefix('?');
        self.rest = lazy.unwrap_or(after);
        let greedy = self.flags.ungreedy == lazy.is_some();
        if let Some(last) = last_repeat {
            return Err(Error::new(NESTED_REPEAT, read(last, self.rest)));
        }
        let part = match self.group().items.pop() {
            None => return Err(Error::new(NOTHING_REPEATED, read(before, self.rest))),
            Some(Item::Part(part)) => part,
            Some(Item::Text(mut text)) => {
                let last = text.pop().expect("texts are not empty");
                if !text.is_empty() {
                    self.group().items.push(Item::Text(text));
                }
                Part::single(Hir::literal(last.encode_utf8(&mut [0; 4]).as_bytes()))
            }
        };
        let repeats = match (counted, max, min) {
            (true, Some(0), _) => 1,
            (true, Some(n), _) | (true, None, n) if n > 0 => part.repeats.saturating_mul(n),
            _ => part.repeats,
        };
        if counted && (min >= 2 || max.is_some_and(|max| max >= 2)) && repeats > REPEATS_MAX {
            return Err(Error::new(BAD_COUNT, read(before, self.rest)));
        }
        let height = part.height + 1;
        self.check_height(height)?;
        let hir = Hir::repetition(Repetition { min, max, greedy, sub: Box::new(part.hir) });
        self.push_part(Part { hir, kind: Kind::Other, height, repeats });
        Ok(())
    }

    // Groups

    fn open_capture(&mut self, name: Option<String>) {
        let capture = u32::try_from(self.names.len()).ok();
        self.names.push(name);
        self.open.push(Group { flags_before: self.flags, capture, ..Group::default() });
    }

    fn close_alternative(&mut self) -> Result<(), Error> {
        let items = std::mem::take(&mut self.group().items);
        let parts = items.into_iter().map(|item| match item {
            Item::Text(text) => Part::single(Hir::literal(text.into_bytes())),
            Item::Part(part) => part,
        });
        let part = self.joined(parts.collect(), Kind::Concat)?;
        self.group().alternatives.push(part);
        Ok(())
    }

    fn close_alternatives(&mut self) -> Result<Part, Error> {
        self.close_alternative()?;
        let alternatives = std::mem::take(&mut self.group().alternatives);
        self.joined(alternatives, Kind::Alternation)
    }

    fn joined(&self, mut parts: Vec<Part>, kind: Kind) -> Result<Part, Error> {
        match parts.len() {
            0 => return Ok(Part::single(Hir::empty())),
            1 => return Ok(parts.pop().expect("there is one")),
            _ => {}
        }
        // Parts of the same kind are joined with their own parts.
        let inner = |p: &Part| if p.kind == kind { p.height - 1 } else { p.height };
        let height = 1 + parts.iter().map(inner).max().unwrap_or(0);
        self.check_height(height)?;
        let repeats = parts.iter().map(|p| p.repeats).max().unwrap_or(1);
        let subs = parts.into_iter().map(|p| p.hir).collect();
        let hir = if kind == Kind::Concat { Hir::concat(subs) } else { Hir::alternation(subs) };
        Ok(Part { hir, kind, height, repeats })
    }

    fn close_group(&mut self) -> Result<(), Error> {
        let mut inner = self.close_alternatives()?;
        if self.open.len() == 1 {
            return Err(Error::new(UNEXPECTED_PAREN, self.whole));
        }
        let group = self.open.pop().expect("two are open");
        self.flags = group.flags_before;
        if let Some(index) = group.capture {
            let height = inner.height + 1;
            self.check_height(height)?;
            let hir = Hir::capture(Capture { index, name: None, sub: Box::new(inner.hir) });
            inner = Part { hir, kind: Kind::Other, height, repeats: inner.repeats };
        }
        self.push_part(inner);
        Ok(())
    }

    /// `(?…`: a named group, flags, or a group that captures nothing.
    fn perl_group(&mut self) -> Result<(), Error> {
        let start = self.rest;
        let name_at = if start.len() > 4 && start.starts_with("(?P<") {
            Some(4)
        } else if start.len() > 3 && start.starts_with("(?<") {
            Some(3)
        } else {
            None
        };
        if let Some(name_at) = name_at {
            let end = start.find('>').ok_or_else(|| Error::new(BAD_NAME, start))?;
            let name = &start[name_at..end];
            if name.is_empty() || !name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric()) {
                return Err(Error::new(BAD_NAME, &start[..=end]));
            }
            self.rest = &start[end + 1..];
            self.open_capture(Some(name.to_owned()));
            return Ok(());
        }
        let mut flags = self.flags;
        let (mut on, mut any) = (true, false);
        let mut rest = &start[2..];
        while let Some((c, after)) = next_char(rest) {
            rest = after;
            let flag = match c {
                'i' => &mut flags.ignore_case,
                'm' => &mut flags.multi_line,
                's' => &mut flags.dot_all,
                'U' => &mut flags.ungreedy,
                '-' if on => {
                    (on, any) = (false, false);
                    continue;
                }
                ':' | ')' if on || any => {
                    if c == ':' {
                        self.open.push(Group { flags_before: self.flags, ..Group::default() });
                    }
                    self.flags = flags;
                    self.rest = rest;
                    return Ok(());
                }
                _ => break,
            };
            *flag = on;
            any = true;
        }
        Err(Error::new(BAD_FLAGS, read(start, rest)))
    }

    // Escapes and classes

    fn backslash(&mut self) -> Result<(), Error> {
        let start = self.rest;
        let after = &start[1..];
        let Some((letter, after)) = next_char(after) else { return Err(Error::new(TRAILING_BACKSLASH, "")) };
        let look = match letter {
            'A' => Some(Look::Start),
            'z' => Some(Look::End),
            'b' => Some(Look::WordAscii),
            'B' => Some(Look::WordAsciiNegate),
            _ => None,
        };
        if let Some(look) = look {
            self.rest = after;
            self.push(Hir::look(look));
            return Ok(());
        }
        if letter == 'Q' {
            let (text, after) = after.split_once(r"\E").unwrap_or((after, ""));
            self.rest = after;
            return text.chars().try_for_each(|c| self.literal(c));
        }
        if let Some((class, after)) = self.class_escape(start)? {
            self.rest = after;
            self.push(Hir::class(hir::Class::Unicode(class)));
            return Ok(());
        }
        let (c, after) = escape(start)?;
        self.rest = after;
        match c {
            Some(c) => self.literal(c),
            None => {
                self.push(Hir::fail());
                Ok(())
            }
        }
    }

    /// `\d` and its like, `\pL`, `\p{Greek}`, with other cases where flags say so; and what comes after.
    fn class_escape<'t>(&mut self, text: &'t str) -> Result<Option<(ClassUnicode, &'t str)>, Error> {
        let Some((letter, after)) = text.strip_prefix('\\').and_then(next_char) else { return Ok(None) };
        let (class, negative, after) = match letter {
            'd' | 's' | 'w' | 'D' | 'S' | 'W' => {
                (class::perl(letter.to_ascii_lowercase()), letter.is_ascii_uppercase(), after)
            }
            'p' | 'P' => {
                let (whole, name, after) = match next_char(after) {
                    Some(('{', _)) => {
                        let end = text.find('}').ok_or_else(|| Error::new(BAD_RANGE, text))?;
                        (&text[..=end], &text[3..end], &text[end + 1..])
                    }
                    Some((_, rest)) => (read(text, rest), read(after, rest), rest),
                    None => (text, "", ""),
                };
                let plain = name.strip_prefix('^');
                let class = class::named(plain.unwrap_or(name)).ok_or_else(|| Error::new(BAD_RANGE, whole))?;
                self.charge(UNICODE_CLASS_WORK)?;
                (Some(class), (letter == 'P') != plain.is_some(), after)
            }
            _ => return Ok(None),
        };
        let Some(class) = class else { return Ok(None) };
        let class = self.in_all_cases(class)?;
        Ok(Some((if negative { class::negated(class) } else { class }, after)))
    }

    fn in_all_cases(&mut self, class: ClassUnicode) -> Result<ClassUnicode, Error> {
        if !self.flags.ignore_case {
            return Ok(class);
        }
        self.charge(class::count(&class))?;
        Ok(class::folded(class))
    }

    fn class(&mut self) -> Result<(), Error> {
        let start = self.rest;
        let negative = start[1..].strip_prefix('^');
        let mut rest = negative.unwrap_or(&start[1..]);
        let mut all = ClassUnicode::empty();
        let mut ranges: Vec<(char, char)> = Vec::new();
        let mut first = true;
        while first || !rest.starts_with(']') {
            first = false;
            // `[:name:]`; without its end it is an ordinary `[`.
            if rest.len() > 2
                && rest.starts_with("[:")
                && let Some(end) = rest[2..].find(":]")
            {
                let whole = &rest[..end + 4];
                let name = &whole[2..whole.len() - 2];
                let plain = name.strip_prefix('^');
                let class = class::posix(plain.unwrap_or(name)).ok_or_else(|| Error::new(BAD_RANGE, whole))?;
                let class = self.in_all_cases(class)?;
                self.charge(all.ranges().len())?;
                all.union(&if plain.is_some() { class::negated(class) } else { class });
                rest = &rest[end + 4..];
                continue;
            }
            if let Some((class, after)) = self.class_escape(rest)? {
                self.charge(all.ranges().len())?;
                all.union(&class);
                rest = after;
                continue;
            }
            let from = rest;
            let (low, mut after) = class_char(rest, start)?;
            let mut high = low;
            if after.starts_with('-') && after.len() >= 2 && !after[1..].starts_with(']') {
                (high, after) = class_char(&after[1..], start)?;
                if high < low {
                    return Err(Error::new(BAD_RANGE, read(from, after)));
                }
            }
            rest = after;
            ranges.extend(without_surrogates(low, high));
        }
        self.rest = &rest[1..];
        let single = class::of(&ranges);
        let single = self.in_all_cases(single)?;
        all.union(&single);
        if negative.is_some() {
            all.negate();
        }
        self.push(Hir::class(hir::Class::Unicode(all)));
        Ok(())
    }
}

/// `{n}`, `{n,}` or `{n,m}` at the beginning: the counts and what comes after; `None` when it is none of them. The
/// counts are `None` when they are huge.
#[expect(clippy::type_complexity, reason = "three layers of absence, each said above")]
fn counts(text: &str) -> Option<(Option<(u32, Option<u32>)>, &str)> {
    let (min, rest) = integer(text.strip_prefix('{')?)?;
    let (max, rest) = match rest.strip_prefix(',') {
        None => (Some(min), rest),
        Some(rest) if rest.starts_with('}') => (None, rest),
        Some(rest) => integer(rest).map(|(max, rest)| (Some(max), rest))?,
    };
    let rest = rest.strip_prefix('}')?;
    let counts = match (min, max) {
        (Some(min), None) => Some((min, None)),
        (Some(min), Some(Some(max))) => Some((min, Some(max))),
        _ => None,
    };
    Some((counts, rest))
}

/// A decimal without leading zeros; `Some((None, …))` when it is huge.
fn integer(text: &str) -> Option<(Option<u32>, &str)> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    if digits == 0 || (digits > 1 && text.starts_with('0')) {
        return None;
    }
    Some((text[..digits].parse().ok(), &text[digits..]))
}

/// A character of a class, `\x41` too. The number of a surrogate is no `char` but may end a range.
fn class_char<'a>(text: &'a str, class: &str) -> Result<(u32, &'a str), Error> {
    if text.starts_with('\\') {
        return escape_code(text);
    }
    let (c, rest) = next_char(text).ok_or_else(|| Error::new(OPEN_BRACKET, class))?;
    Ok((u32::from(c), rest))
}

fn without_surrogates(low: u32, high: u32) -> impl Iterator<Item = (char, char)> {
    let parts = [(low, high.min(0xd7ff)), (low.max(0xe000), high)];
    parts.into_iter().filter(|(a, b)| a <= b).filter_map(|(a, b)| Some((char::from_u32(a)?, char::from_u32(b)?)))
}

/// The character of an escape; `None` for a surrogate, which no text holds.
fn escape(text: &str) -> Result<(Option<char>, &str), Error> {
    let (code, rest) = escape_code(text)?;
    Ok((char::from_u32(code), rest))
}

fn escape_code(text: &str) -> Result<(u32, &str), Error> {
    let Some((c, mut rest)) = next_char(&text[1..]) else { return Err(Error::new(TRAILING_BACKSLASH, "")) };
    let octal = |rest: &str| rest.starts_with(|c: char| ('0'..='7').contains(&c));
    let code = match c {
        // One digit alone is a reference to a group elsewhere.
        '0'..='7' if c == '0' || octal(rest) => {
            let mut code = u32::from(c) - u32::from('0');
            for _ in 0..2 {
                let Some(digit) = rest.chars().next().filter(|_| octal(rest)) else { break };
                code = code * 8 + (u32::from(digit) - u32::from('0'));
                rest = &rest[1..];
            }
            Some(code)
        }
        'x' => {
            let code;
            (code, rest) = hexadecimal(rest);
            code
        }
        'a' => Some(0x07),
        'f' => Some(0x0c),
        'n' => Some(0x0a),
        'r' => Some(0x0d),
        't' => Some(0x09),
        'v' => Some(0x0b),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(u32::from(c)),
        _ => None,
    };
    code.map(|code| (code, rest)).ok_or_else(|| Error::new(BAD_ESCAPE, read(text, rest)))
}

/// The two digits, or digits in braces, after `\x`, and how far was read.
fn hexadecimal(text: &str) -> (Option<u32>, &str) {
    let Some((first, mut rest)) = next_char(text) else { return (None, text) };
    if first != '{' {
        let Some((second, rest)) = next_char(rest) else { return (None, rest) };
        return (first.to_digit(16).zip(second.to_digit(16)).map(|(a, b)| a * 16 + b), rest);
    }
    let mut code = None;
    while let Some((c, after)) = next_char(rest) {
        rest = after;
        if c == '}' {
            return (code, rest);
        }
        let Some(digit) = c.to_digit(16) else { break };
        let value = code.unwrap_or(0) * 16 + digit;
        if value > u32::from(char::MAX) {
            break;
        }
        code = Some(value);
    }
    (None, rest)
}
