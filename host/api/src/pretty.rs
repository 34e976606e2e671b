//! JSON with line breaks and two spaces a level, made from JSON without them, slice by slice, without
//! parsing: for people who read from curl or a browser.

/// See the module. Keeps its place between slices.
#[derive(Debug, Default)]
pub(crate) struct Indenter {
    depth: usize,
    in_text: bool,
    escaped: bool,
    /// A container was opened, and nothing stands in it yet.
    opened: bool,
}

impl Indenter {
    pub(crate) fn indent(&mut self, json: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(json.len() * 3 / 2);
        for byte in json {
            self.byte(*byte, &mut out);
        }
        out
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>) {
        if self.in_text {
            out.push(byte);
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }
            return;
        }
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => {}
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if !std::mem::take(&mut self.opened) {
                    self.line(out);
                }
                out.push(byte);
            }
            byte => {
                if std::mem::take(&mut self.opened) {
                    self.line(out);
                }
                out.push(byte);
                match byte {
                    b'"' => self.in_text = true,
                    b'{' | b'[' => {
                        self.depth += 1;
                        self.opened = true;
                    }
                    b',' => self.line(out),
                    b':' => out.push(b' '),
                    _ => {}
                }
            }
        }
    }

    fn line(&self, out: &mut Vec<u8>) {
        out.push(b'\n');
        out.resize(out.len() + 2 * self.depth, b' ');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn it_is_what_a_parser_would_write_wherever_the_slices_end() {
        let document = json!({
            "a": {}, "b": [], "c": [1, -2.5, null, true, [{}]], "d": {"e\"\\": "x:{,[\n", "": "\\"}, "z": "ü"
        });
        let expected = serde_json::to_string_pretty(&document).unwrap();
        let json = document.to_string().into_bytes();
        for size in 1..json.len() {
            let mut indenter = Indenter::default();
            let text: Vec<u8> = json
                .chunks(size)
                .flat_map(|slice| indenter.indent(slice))
                .collect();
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }
}
