//! Reads Rust source as far as the rules need it: tokens without comments, and the modules that a file declares.

/// A piece of source that is neither space nor comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// An identifier or keyword.
    Word(String),
    /// The content of a string literal, escapes as written.
    Text(String),
    /// Any other single character; a path separator is one `:` with this value, see [`Token::PathSep`].
    Mark(char),
    /// `::`.
    PathSep,
}

impl Token {
    /// Whether the token is this word.
    pub(crate) fn is_word(&self, word: &str) -> bool {
        matches!(self, Token::Word(own) if own == word)
    }

    /// Whether the token is this character.
    pub(crate) fn is_mark(&self, mark: char) -> bool {
        *self == Token::Mark(mark)
    }

    /// The word, if the token is one.
    pub(crate) fn word(&self) -> Option<&str> {
        match self {
            Token::Word(word) => Some(word),
            Token::Text(_) | Token::Mark(_) | Token::PathSep => None,
        }
    }
}

/// Splits source into tokens.
pub(crate) fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let c = chars[i];
        if c.is_whitespace() {
            i += 1;
        } else if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            i = end_of_block_comment(&chars, i);
        } else if let Some((text, end)) = string_at(&chars, i) {
            tokens.push(Token::Text(text));
            i = end;
        } else if c == '\'' {
            // A character literal ends with a quote; a lifetime doesn't.
            if at(i + 1) == '\\' {
                i += 3;
                while i < chars.len() && chars[i] != '\'' {
                    i += 1;
                }
                i += 1;
            } else if at(i + 2) == '\'' {
                i += 3;
            } else {
                i += 1;
            }
        } else if c.is_alphanumeric() || c == '_' {
            let start = i;
            while at(i).is_alphanumeric() || at(i) == '_' {
                i += 1;
            }
            tokens.push(Token::Word(chars[start..i].iter().collect()));
        } else if c == ':' && at(i + 1) == ':' {
            tokens.push(Token::PathSep);
            i += 2;
        } else {
            tokens.push(Token::Mark(c));
            i += 1;
        }
    }
    tokens
}

fn end_of_block_comment(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut i = start;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                i += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                i += 2;
                if depth == 0 {
                    return i;
                }
            }
            _ => i += 1,
        }
    }
    i
}

/// Returns the string literal that begins at `start`, plain, byte, C or raw, and where it ends.
fn string_at(chars: &[char], start: usize) -> Option<(String, usize)> {
    let mut i = start;
    if matches!(chars.get(i), Some('b' | 'c')) {
        i += 1;
    }
    let raw = chars.get(i) == Some(&'r');
    i += usize::from(raw);
    let hashes = if raw { chars[i..].iter().take_while(|c| **c == '#').count() } else { 0 };
    i += hashes;
    if chars.get(i) != Some(&'"') {
        return None;
    }
    i += 1;
    let content = i;
    while i < chars.len() {
        if !raw && chars[i] == '\\' {
            i += 2;
        } else if chars[i] == '"'
            && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
        {
            return Some((chars[content..i].iter().collect(), i + 1 + hashes));
        } else {
            i += 1;
        }
    }
    Some((chars[content..].iter().collect(), chars.len()))
}

/// Returns the source before the unit tests, which stand at the end of a file behind `#[cfg(test)]`.
pub(crate) fn production(source: &str) -> &str {
    let marker = "#[cfg(test)]\nmod tests {";
    match source.find(marker) {
        Some(start) if start == 0 || source[..start].ends_with('\n') => &source[..start],
        Some(_) | None => source,
    }
}

/// A module that a file declares with `mod name;`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Declaration {
    /// The inline modules around the declaration, outermost first.
    pub(crate) inside: Vec<String>,
    /// The module's name.
    pub(crate) name: String,
    /// The value of its `#[path]` attribute.
    pub(crate) path: Option<String>,
}

/// Returns the modules that the tokens of a file declare.
pub(crate) fn declarations(tokens: &[Token]) -> Vec<Declaration> {
    let mut found = Vec::new();
    let mut path = None;
    let mut inline = InlineModules::default();
    for (i, token) in tokens.iter().enumerate() {
        inline.pass(tokens, i);
        match (token, tokens.get(i + 1), tokens.get(i + 2)) {
            (token, Some(Token::Mark('=')), Some(Token::Text(text))) if token.is_word("path") => {
                path = Some(text.clone());
            }
            (token, Some(Token::Word(name)), Some(Token::Mark(';'))) if token.is_word("mod") => {
                found.push(Declaration {
                    inside: inline.names.clone(),
                    name: name.clone(),
                    path: path.take(),
                });
            }
            _ => {}
        }
    }
    found
}

/// Returns the words that follow `crate::`, and those that follow as many `super` as lead up to the root from a module
/// `depth` below it.
///
/// A group `crate::{a, b::c}` gives each of its members; `*` and a renamed `crate` give `*`.
pub(crate) fn names_under_root(tokens: &[Token], depth: usize) -> Vec<String> {
    let mut names = Vec::new();
    let mut inline = InlineModules::default();
    let mut i = 0;
    while i < tokens.len() {
        inline.pass(tokens, i);
        let mut end = i;
        let mut from_root = false;
        if tokens[i].is_word("crate") {
            end = i + 1;
            from_root = true;
            if tokens.get(end).is_some_and(|token| token.is_word("as")) {
                names.push("*".to_owned());
            }
        } else if tokens[i].is_word("super") {
            let mut levels = 1;
            end = i + 1;
            while tokens.get(end) == Some(&Token::PathSep)
                && tokens.get(end + 1).is_some_and(|t| t.is_word("super"))
            {
                levels += 1;
                end += 2;
            }
            from_root = levels >= depth + inline.names.len();
        }
        if from_root && tokens.get(end) == Some(&Token::PathSep) {
            names.extend(members(&tokens[end + 1..]));
        }
        i = end.max(i + 1);
    }
    names
}

/// The inline modules around a token, found by passing over all tokens before it.
#[derive(Default)]
struct InlineModules {
    names: Vec<String>,
    /// The brace depth inside of each.
    opened: Vec<usize>,
    depth: usize,
}

impl InlineModules {
    fn pass(&mut self, tokens: &[Token], i: usize) {
        if tokens[i].is_mark('{') {
            self.depth += 1;
            if let [.., keyword, Token::Word(name)] = &tokens[..i]
                && keyword.is_word("mod")
            {
                self.names.push(name.clone());
                self.opened.push(self.depth);
            }
        } else if tokens[i].is_mark('}') {
            if self.opened.last() == Some(&self.depth) {
                self.names.pop();
                self.opened.pop();
            }
            self.depth = self.depth.saturating_sub(1);
        }
    }
}

/// Returns the first words of a path or of each member of a group of paths.
fn members(tokens: &[Token]) -> Vec<String> {
    let first = |token: &Token| match token {
        Token::Word(word) => Some(word.clone()),
        Token::Mark('*') => Some("*".to_owned()),
        Token::Text(_) | Token::Mark(_) | Token::PathSep => None,
    };
    if !tokens.first().is_some_and(|token| token.is_mark('{')) {
        return tokens.first().and_then(first).into_iter().collect();
    }
    let mut names = Vec::new();
    let mut depth = 0_usize;
    for (i, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => {
                depth -= 1;
                if depth == 0 {
                    break;
                }
            }
            _ if depth == 1 && matches!(tokens[i - 1], Token::Mark('{' | ',')) => names.extend(first(token)),
            _ => {}
        }
    }
    names
}

/// Whether a path in the tokens begins with this crate's name.
pub(crate) fn names_crate(tokens: &[Token], name: &str) -> bool {
    tokens.iter().enumerate().any(|(i, token)| {
        let before = |n: usize| i.checked_sub(n).map(|i| &tokens[i]);
        let begins_path = before(1) != Some(&Token::PathSep)
            || before(2).is_none_or(|token| token.word().is_none() || token.is_word("use"));
        let is_path = tokens.get(i + 1) == Some(&Token::PathSep);
        let is_imported = before(1).is_some_and(|token| token.is_word("use") || token.is_word("crate"));
        token.is_word(name) && begins_path && (is_path || is_imported)
    })
}

/// Whether the tokens contain this path, such as `["Instant", "now"]`.
pub(crate) fn names_path(tokens: &[Token], path: &[&str]) -> bool {
    let wanted: Vec<Token> =
        path.iter().flat_map(|word| [Token::PathSep, Token::Word((*word).to_owned())]).skip(1).collect();
    tokens.windows(wanted.len()).any(|window| window == wanted)
}
