//! Text from outside, made fit to be shown to people.

/// Makes text fit for a terminal or a sentence: on one line, without control characters and
/// characters that change the direction of text, and of at most `characters_max` characters.
pub(crate) fn printable(text: &str, characters_max: usize) -> String {
    let shown = text.chars().take(characters_max);
    let mut shown: String = shown.map(|one| if is_printable(one) { one } else { '\u{fffd}' }).collect();
    if text.chars().nth(characters_max).is_some() {
        shown.push('…');
    }
    shown
}

/// Whether a character is shown as such. Control characters, marks that change the direction of
/// text, and invisible characters are not printable.
pub(crate) fn is_printable(character: char) -> bool {
    !character.is_control()
        && !matches!(
            character,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_move_the_cursor_of_a_terminal() {
        assert_eq!(printable("a\x1b[2J\nb\u{202e}ü", 10), "a\u{fffd}[2J\u{fffd}b\u{fffd}ü");
        assert_eq!(printable("abc", 2), "ab…");
    }
}
