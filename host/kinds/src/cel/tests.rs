use serde_json::json;

use super::*;
use crate::custom::Schema;
use serde_json::Value as Json;

fn evaluate(text: &str, object: &Json, schema: Option<&Schema>) -> Result<String, String> {
    let node = parse(text).map_err(|problem| problem.shown(text))?;
    let mut evaluation = Evaluation::new(vec![("self", Value::json(object, schema))], CALL_COST_MAX);
    match evaluation.value(&node) {
        Ok(Value::Bool(flag)) => Ok(flag.to_string()),
        Ok(other) => Ok(functions::shown(&other)),
        Err(Failure::Error(message)) => Err(message),
        Err(Failure::OverBudget) => Err("over budget".to_string()),
    }
}

#[test]
fn expressions() {
    let object = json!({
        "name": "web", "replicas": 3, "min": 1, "tags": ["a", "b"], "size": "1Gi", "labels": {"app": "x"},
        "list": [{"n": 1, "on": true}, {"n": 2, "on": false}], "a-b": 7
    });
    for (text, expected) in [
        ("self.replicas >= self.min && self.name == 'web'", "true"),
        ("1 + 2 * 3 - 4 / 2 == 5 ? 'yes' : 'no'", "yes"),
        ("self.tags.all(t, t.matches('^[a-z]$'))", "true"),
        ("self.tags.exists_one(t, t == 'a')", "true"),
        ("self.list.filter(x, x.on).map(x, x.n)[0]", "1"),
        ("self.list.map(x, x.on, x.n * 10).sum()", "10"),
        ("has(self.nope) || !has(self.name)", "false"),
        (
            "'app' in self.labels && 'b' in self.tags && !('z' in self.tags)",
            "true",
        ),
        ("size(self.tags) + self.name.size()", "5"),
        ("self.labels.all(k, self.labels[k] != '')", "true"),
        ("self.a__dash__b == 7", "true"),
        ("quantity(self.size).isGreaterThan(quantity('500Mi'))", "true"),
        ("quantity('1').add(quantity('500m')) == quantity('1500m')", "true"),
        (
            "cidr('10.0.0.0/8').containsIP('10.1.2.3') && ip('::1').family() == 6",
            "true",
        ),
        (
            "url('https://a.b:8/c?d=e').getHost() + url('https://a.b:8/c').getPort()",
            "a.b:88",
        ),
        ("'a,b,c'.split(',')[1].upperAscii() + 'x'.replace('x', 'y')", "By"),
        ("'hello'.substring(1, 3) + string('hello'.indexOf('l'))", "el2"),
        ("'%s has %d'.format([self.name, self.replicas])", "web has 3"),
        (
            "duration('1h') > duration('59m') && timestamp('2026-01-02T00:00:00Z').getFullYear() == 2026",
            "true",
        ),
        ("self.?nope.orValue('none') + self.?name.orValue('x')", "noneweb"),
        ("self.?labels.?app.hasValue()", "true"),
        ("optional.of(2).optMap(x, x * 2).value()", "4"),
        (
            "[1, 2, 3].exists(x, x > 2) && {'a': 1}['a'] == 1 && {'a': 1}.a == 1",
            "true",
        ),
        ("true || self.nope == 1", "true"),
        ("self.nope == 1 || true", "true"),
        ("type(self.replicas) == int && type('') == string", "true"),
        ("'a.b'.find('[a-z]') + string(2) + string(1.5)", "a21.5"),
        ("[3, 1, 2].isSorted() || [1, 2].isSorted()", "true"),
        ("sets.contains(self.tags, ['a'])", "true"),
        ("!format.dns1123Label().validate('Bad').hasValue()", "false"),
        ("self.list.all(i, x, x.n == i + 1)", "true"),
        (
            "semver('1.2.3').isLessThan(semver('v1.10', true)) && !isSemver('1.2') && semver('1.2.3-a').minor() == 2",
            "true",
        ),
        (r#""a\n\x41" == 'a\nA' && r'\d' == '\\d'"#, "true"),
        (
            "-self.replicas == -3 && 7 % 4 == 3 && 0x10 == 16 && 3u == uint(3)",
            "true",
        ),
    ] {
        assert_eq!(evaluate(text, &object, None).as_deref(), Ok(expected), "{text}");
    }
    for (text, expected) in [
        ("self.nope", "no such key: nope"),
        ("self.tags[5] == 'a'", "index out of bounds: 5"),
        ("1 / 0 == 1", "division by zero"),
        ("9223372036854775807 + 1 == 0", "integer overflow"),
        ("1 + 'a'", "no such overload"),
    ] {
        assert_eq!(evaluate(text, &object, None).unwrap_err(), expected, "{text}");
    }
    assert!(parse("self.").is_err() && parse("(((").is_err() && parse("'a").is_err());
    assert!(parse(&"(".repeat(10_000)).is_err() && parse(&"!".repeat(50_000)).is_err());
    assert!(parse(&"1+".repeat(500)).is_err() && parse(&format!("1{}", "+1".repeat(20_000))).is_err());
    assert!(parse(&format!("true{}", " && true".repeat(1000))).is_ok());
}

#[test]
fn work_is_bounded() {
    let list: Vec<u32> = (0..1000).collect();
    let object = json!({"list": list, "text": "a".repeat(100_000)});
    for text in [
        "self.list.all(a, self.list.all(b, self.list.all(c, a + b + c >= 0)))",
        "self.list.map(a, self.text).map(t, t + t).size() > 0 && self.list.all(x, self.list.all(y, self.text != 'b'))",
    ] {
        assert_eq!(evaluate(text, &object, None).unwrap_err(), "over budget");
    }
}
