/// Splits a command line as a shell does, for quotes and backslashes; nothing is expanded.
pub(crate) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(one) = characters.next() {
        match (one, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().extend(characters.next()),
            (_, Some(open)) if one == open => quote = None,
            (_, Some(_)) => word.get_or_insert_default().push(one),
            ('"' | '\'', None) => {
                quote = Some(one);
                word.get_or_insert_default();
            }
            (' ', None) => words.extend(word.take()),
            (_, None) => word.get_or_insert_default().push(one),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_are_split_as_a_shell_splits_them() {
        assert_eq!(split(r#"put a "b c" '' d\ e"#), ["put", "a", "b c", "", "d e"]);
    }
}
