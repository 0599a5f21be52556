//! The values of constants: escapes in texts, forms of numbers.

use crate::ast::Literal;

/// The value of what stands between quotes; the error is its message.
pub fn text(content: &str, raw: bool, bytes: bool) -> Result<Literal, String> {
    let mut value = Vec::with_capacity(content.len());
    let mut rest = content.chars();
    while let Some(c) = rest.next() {
        if c != '\\' || raw {
            push(c, &mut value);
            continue;
        }
        escape(&mut rest, bytes, &mut value).ok_or_else(|| format!("invalid escape in '{content}'"))?;
    }
    if bytes {
        return Ok(Literal::Bytes(value.into()));
    }
    let text = String::from_utf8(value).map_err(|_| "invalid text".to_owned())?;
    Ok(Literal::String(text.into()))
}

fn push(c: char, value: &mut Vec<u8>) {
    value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn escape(rest: &mut std::str::Chars<'_>, bytes: bool, value: &mut Vec<u8>) -> Option<()> {
    let c = rest.next()?;
    let plain = match c {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' | '\'' | '"' | '`' | '?' => c,
        'x' | 'X' => return number(rest, 0, 2, 16, bytes, value),
        'u' if !bytes => return number(rest, 0, 4, 16, false, value),
        'U' if !bytes => return number(rest, 0, 8, 16, false, value),
        '0'..='3' => return number(rest, c.to_digit(8)?, 2, 8, bytes, value),
        _ => return None,
    };
    push(plain, value);
    Some(())
}

/// A character by its number; in bytes, the byte itself.
fn number(
    rest: &mut std::str::Chars<'_>,
    first: u32,
    digits: usize,
    radix: u32,
    bytes: bool,
    value: &mut Vec<u8>,
) -> Option<()> {
    let mut code = first;
    for _ in 0..digits {
        code = code.checked_mul(radix)?.checked_add(rest.next()?.to_digit(radix)?)?;
    }
    match bytes {
        true => value.push(u8::try_from(code).ok()?),
        false => push(char::from_u32(code)?, value),
    }
    Some(())
}

/// A number's value, with the sign that stood before it; the error is its message.
pub fn number_value(digits: &str, negative: bool) -> Result<Literal, &'static str> {
    let (body, unsigned) = match digits.strip_suffix(['u', 'U']) {
        Some(body) => (body, true),
        None => (digits, false),
    };
    let hex = body.strip_prefix("0x").or_else(|| body.strip_prefix("0X"));
    let radix = if hex.is_some() { 16 } else { 10 };
    if hex.is_none() && body.contains(['.', 'e', 'E']) {
        let value: f64 = body.parse().map_err(|_| "invalid double literal")?;
        return Ok(Literal::Double(if negative { -value } else { value }));
    }
    let magnitude = u64::from_str_radix(hex.unwrap_or(body), radix);
    if unsigned {
        return magnitude.ok().filter(|_| !negative).map(Literal::Uint).ok_or("invalid uint literal");
    }
    let magnitude = i128::from(magnitude.map_err(|_| "invalid int literal")?);
    let value = if negative { -magnitude } else { magnitude };
    i64::try_from(value).map(Literal::Int).map_err(|_| "invalid int literal")
}
