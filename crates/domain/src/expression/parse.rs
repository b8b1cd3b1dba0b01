//! From text to tree: a recursive-descent parser. Precedence, loosest first: `or`, `and`, `not`, comparison, `+ -`, `* /`, `-x`.

use super::{Binary, Expression, Function, Unary};
use crate::words::did_you_mean;

/// How deep expressions may nest; the parser recurses once a level.
const MAX_DEPTH: usize = 64;

pub(super) fn parse(text: &str) -> Result<Expression, String> {
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0 };
    let expression = parser.or()?;
    match parser.peek() {
        None => Ok(expression),
        Some(token) => Err(format!("unexpected {} after a complete expression", token.shown())),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(f64),
    Text(String),
    Word(String),
    Symbol(&'static str),
}

impl Token {
    fn shown(&self) -> String {
        match self {
            Self::Number(number) => format!("`{number}`"),
            Self::Text(text) => format!("\"{text}\""),
            Self::Word(word) => format!("`{word}`"),
            Self::Symbol(symbol) => format!("`{symbol}`"),
        }
    }
}

const SYMBOLS: [&str; 13] = ["==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "(", ")", ","];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = if first.is_ascii_digit() {
            number(rest)?
        } else if first.is_alphabetic() || first == '_' {
            let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            (Token::Word(rest[..length].to_owned()), length)
        } else if first == '"' {
            let end = rest[1..].find('"').ok_or("a text has no closing `\"`")?;
            (Token::Text(rest[1..=end].to_owned()), end + 2)
        } else {
            let symbol = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol));
            let symbol = symbol.ok_or_else(|| format!("`{first}` means nothing here"))?;
            (Token::Symbol(symbol), symbol.len())
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let length = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '_')).unwrap_or(rest.len());
    let digits = rest[..length].replace('_', "");
    let number = digits.parse().map_err(|_| format!("`{}` is not a number", &rest[..length]))?;
    Ok((Token::Number(number), length))
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn take_symbol(&mut self, symbol: &'static str) -> bool {
        let found = self.peek() == Some(&Token::Symbol(symbol));
        self.at += usize::from(found);
        found
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(known)) if known == word);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &'static str) -> Result<(), String> {
        if self.take_symbol(symbol) {
            return Ok(());
        }
        let found = self.peek().map_or("the end".to_owned(), Token::shown);
        Err(format!("expected `{symbol}` and found {found}"))
    }

    fn or(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("it nests more than {MAX_DEPTH} levels deep"));
        }
        let mut left = self.and()?;
        while self.take_word("or") {
            left = binary(Binary::Or, left, self.and()?);
        }
        self.depth -= 1;
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression, String> {
        let mut left = self.not()?;
        while self.take_word("and") {
            left = binary(Binary::And, left, self.not()?);
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expression, String> {
        let mut negations = 0;
        while self.take_word("not") {
            negations += 1;
        }
        let mut operand = self.comparison()?;
        for _ in 0..negations {
            operand = Expression::Unary(Unary::Not, Box::new(operand));
        }
        Ok(operand)
    }

    fn comparison(&mut self) -> Result<Expression, String> {
        const OPERATORS: [(&str, Binary); 6] = [
            ("==", Binary::Equal),
            ("!=", Binary::NotEqual),
            ("<=", Binary::LessOrEqual),
            (">=", Binary::GreaterOrEqual),
            ("<", Binary::Less),
            (">", Binary::Greater),
        ];
        let left = self.sum()?;
        match OPERATORS.into_iter().find(|(symbol, _)| self.take_symbol(symbol)) {
            Some((_, operator)) => Ok(binary(operator, left, self.sum()?)),
            None => Ok(left),
        }
    }

    fn sum(&mut self) -> Result<Expression, String> {
        let mut left = self.product()?;
        loop {
            if self.take_symbol("+") {
                left = binary(Binary::Add, left, self.product()?);
            } else if self.take_symbol("-") {
                left = binary(Binary::Subtract, left, self.product()?);
            } else {
                return Ok(left);
            }
        }
    }

    fn product(&mut self) -> Result<Expression, String> {
        let mut left = self.signed()?;
        loop {
            if self.take_symbol("*") {
                left = binary(Binary::Multiply, left, self.signed()?);
            } else if self.take_symbol("/") {
                left = binary(Binary::Divide, left, self.signed()?);
            } else {
                return Ok(left);
            }
        }
    }

    fn signed(&mut self) -> Result<Expression, String> {
        let mut minuses = 0;
        while self.take_symbol("-") {
            minuses += 1;
        }
        let operand = self.atom()?;
        Ok(match (minuses % 2, operand) {
            (0, operand) => operand,
            (_, Expression::Number(number)) => Expression::Number(-number),
            (_, operand) => Expression::Unary(Unary::Minus, Box::new(operand)),
        })
    }

    fn atom(&mut self) -> Result<Expression, String> {
        let token = self.peek().cloned().ok_or("it ends where a value is expected")?;
        self.at += 1;
        match token {
            Token::Number(number) => Ok(Expression::Number(number)),
            Token::Text(text) => Ok(Expression::Text(text)),
            Token::Symbol("(") => {
                let inner = self.or()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Symbol(symbol) => Err(format!("`{symbol}` stands where a value is expected")),
            Token::Word(word) if word == "true" || word == "false" => Ok(Expression::Boolean(word == "true")),
            Token::Word(word) if self.take_symbol("(") => self.call(&word),
            Token::Word(word) => Ok(Expression::Column(word)),
        }
    }

    fn call(&mut self, name: &str) -> Result<Expression, String> {
        let known = Function::NAMES.iter().find(|(known, _)| *known == name);
        let (_, function) = known.ok_or_else(|| {
            let names = Function::NAMES.iter().map(|(name, _)| *name);
            format!("there is no function `{name}`{}", did_you_mean(name, names))
        })?;
        let mut arguments = Vec::new();
        while !self.take_symbol(")") {
            if !arguments.is_empty() {
                self.expect(",")?;
            }
            arguments.push(self.or()?);
        }
        Ok(Expression::Call(*function, arguments))
    }
}

fn binary(operator: Binary, left: Expression, right: Expression) -> Expression {
    Expression::Binary(operator, Box::new(left), Box::new(right))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn products_bind_tighter_than_sums_and_sums_tighter_than_comparisons() {
        let parsed = parse("a + b * 2 > c").unwrap();
        let product = binary(Binary::Multiply, Expression::Column("b".into()), Expression::Number(2.0));
        let sum = binary(Binary::Add, Expression::Column("a".into()), product);
        assert_eq!(parsed, binary(Binary::Greater, sum, Expression::Column("c".into())));
    }

    #[test]
    fn an_unknown_function_is_refused_with_the_likely_intent() {
        let said = parse("minuts(3)").unwrap_err();
        assert!(said.contains("did you mean `minutes`?"), "{said}");
    }

    #[test]
    fn a_bottomless_expression_is_refused_and_does_not_exhaust_the_stack() {
        assert!(parse(&"(".repeat(100_000)).unwrap_err().contains("levels deep"));
        assert!(parse(&"not ".repeat(1_000)).is_err());
        assert!(parse(&format!("{}1", "-".repeat(100_001))).is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,60}") {
            let _ = parse(&text);
        }
    }
}
