//! Chat templates, compared with what transformers makes of them (`data/generate_chat_goldens.py`), and templates that
//! must fail without doing harm.

use std::time::{Duration, Instant};

use camelid_tokenizer::{ChatTemplate, RenderOptions, TemplateError};
use serde_json::{Map, Value, json};

fn options(mut given: Map<String, Value>) -> RenderOptions {
    let text = |given: &mut Map<String, Value>, key: &str| given.remove(key).map(|v| v.as_str().unwrap().to_owned());
    let flag = |given: &mut Map<String, Value>, key: &str| given.remove(key).is_some_and(|v| v == true);
    RenderOptions {
        add_generation_prompt: flag(&mut given, "add_generation_prompt"),
        continue_final_message: flag(&mut given, "continue_final_message"),
        bos_token: text(&mut given, "bos_token"),
        eos_token: text(&mut given, "eos_token"),
        tools: given.remove("tools").map(|v| v.as_array().unwrap().clone()),
        documents: None,
        extra: given,
        now: Some("2024-07-06T15:04:05".parse().unwrap()),
    }
}

fn render(template: &str, messages: Value) -> Result<String, TemplateError> {
    ChatTemplate::new(template)?.render(messages.as_array().unwrap(), &RenderOptions::default())
}

#[test]
fn renders_as_transformers_does() {
    let goldens: Value = serde_json::from_str(include_str!("data/chat_goldens.json")).unwrap();
    let cases = goldens["cases"].as_array().unwrap();
    assert!(cases.len() >= 29);
    let mut wrong = Vec::new();
    for case in cases {
        let source = goldens["templates"][case["template"].as_str().unwrap()].as_str().unwrap();
        let messages = case["messages"].as_array().unwrap();
        let result = ChatTemplate::new(source)
            .and_then(|template| template.render(messages, &options(case["options"].as_object().unwrap().clone())));
        let agrees = match &result {
            Ok(text) => case["text"] == **text,
            Err(TemplateError::Raised { message, .. }) => case["raised"] == **message,
            Err(_) => case.get("error").is_some(),
        };
        if !agrees {
            let text = result.as_ref().map_or_else(ToString::to_string, Clone::clone);
            wrong.push(format!("--- {}\nwanted {case:#}\ngot {text}", case["name"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn a_syntax_error_names_its_line() {
    match ChatTemplate::new("fine\n\n{% for m in messages %}{{ m.content }}\n") {
        Err(TemplateError::Syntax { line, message }) => assert!(line >= 3 && !message.is_empty(), "{line} {message}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn errors_name_the_line_and_the_words() {
    let hello = json!([{"role": "user", "content": "hello"}]);
    let error = render("a\n{{ raise_exception('only ' ~ messages[0].role) }}", hello.clone()).unwrap_err();
    assert!(matches!(&error, TemplateError::Raised { line: 2, message } if message == "only user"), "{error:?}");
    let in_macro = "{% macro m() %}\n{{ raise_exception('no') }}{% endmacro %}\n\n{{ m() }}";
    let error = render(in_macro, hello.clone()).unwrap_err();
    assert!(matches!(&error, TemplateError::Raised { message, .. } if message == "no"), "{error:?}");
    let error = render("\n\n{{ messages[0].content.frobnicate() }}", hello).unwrap_err();
    assert!(
        matches!(&error, TemplateError::Render { line: 3, message } if message.contains("frobnicate")),
        "{error:?}"
    );
}

/// Every one of these would run for ever, or use up memory or stack.
#[test]
fn templates_without_end_are_stopped() {
    let endless = [
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
        "{% for i in range(10**9) %}x{% endfor %}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='x') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
        "{{ 'x' * 10**10 }}",
        "{% set ns = namespace(l=[1]) %}{% for i in range(30) %}{% set ns.l = ns.l + ns.l %}{% endfor %}{{ ns.l | tojson }}",
        "{% set l = range(99999) | list %}{% for i in l %}{% for j in l %}{{ l | tojson }}{% endfor %}{% endfor %}",
        "{% for i in range(90000) %}{{ 'a line of text that is long enough to fill memory soon enough, if nobody counts' }}{% endfor %}",
        "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ 'a' | center(10000000000) }}",
        "{% include 'chat_template' %}",
        "{{ {'a': 1} | tojson(indent=1000000000) }}",
        "{{ messages | pprint }}",
        "{{ debug() }}",
    ];
    for template in endless {
        let start = Instant::now();
        let result = render(template, json!([{"role": "user", "content": "hello"}]));
        assert!(result.is_err(), "{template} gave {} bytes", result.unwrap().len());
        assert!(start.elapsed() < Duration::from_secs(20), "{template} took {:?}", start.elapsed());
    }
}

/// A value nested deep enough makes code that walks it, or frees it, overflow the stack.
#[test]
fn deeply_nested_values_do_no_harm() {
    let more = format!("{}ns.l{}", "[".repeat(40), "]".repeat(40));
    let nest =
        format!("{{% set ns = namespace(l=[]) %}}{{% for i in range(90000) %}}{{% set ns.l = {more} %}}{{% endfor %}}");
    let many: Vec<Value> = (0..5000).map(|_| json!({"role": "user", "content": ""})).collect();
    // More messages allow more steps, and so more depth.
    for messages in [&many[..1], &many[..]] {
        for walk in ["", "{{ ns.l }}", "{{ ns.l == [ns.l] }}", "{{ {ns.l: 1} }}"] {
            let template = ChatTemplate::new(&format!("{nest}{walk}")).unwrap();
            let result = template.render(messages, &RenderOptions::default());
            assert!(matches!(result, Err(TemplateError::TooManySteps { .. })), "{walk} {result:?}");
        }
    }
    // As deep as one can get and still have steps left to walk the value.
    let nest = nest.replace("90000", "5500");
    for (walk, text) in [
        ("{{ ns.l == [ns.l] }}", "False"),
        ("{{ {ns.l: 1} | length }}", "1"),
        ("{{ [ns.l, [ns.l]] | sort | length }}", "2"),
    ] {
        assert_eq!(render(&format!("{nest}{walk}"), json!([])).unwrap(), text);
    }
    // Either written out or refused for its size.
    let _ = render(&format!("{nest}{{{{ ns.l }}}}"), json!([]));
    let error = render(&format!("{nest}{{{{ ns.l | tojson }}}}"), json!([])).unwrap_err();
    assert!(error.to_string().contains("nested deeper"), "{error}");
    let deep = format!("{}1{}", "[".repeat(50_000), "]".repeat(50_000));
    assert!(matches!(ChatTemplate::new(&format!("{{{{ {deep} }}}}")), Err(TemplateError::Syntax { .. })));
    assert!(ChatTemplate::new(&"{% if 1 %}".repeat(50_000)).is_err());
}

#[test]
fn what_a_template_may_take_grows_with_its_input() {
    let template = ChatTemplate::new(
        "{% for m in messages %}{{ '<' + m.role + '>' + m.content.strip() + eos_token + '\n' }}{% endfor %}",
    )
    .unwrap();
    let options = RenderOptions { eos_token: Some("</s>".to_owned()), ..RenderOptions::default() };
    let many: Vec<Value> = (0..5000).map(|i| json!({"role": "user", "content": format!("message {i}")})).collect();
    assert!(template.render(&many, &options).unwrap().ends_with("message 4999</s>\n"));
    let long = [json!({"role": "user", "content": "word ".repeat(2_000_000)})];
    assert_eq!(template.render(&long, &options).unwrap().len(), 10_000_000 - 1 + "<user></s>\n".len());
}

#[test]
fn input_that_no_template_can_use_is_refused() {
    let template = ChatTemplate::new("{% for m in messages %}{{ m.content }}{% endfor %}").unwrap();
    let refused =
        |messages: Value, options: RenderOptions| match template.render(messages.as_array().unwrap(), &options) {
            Err(TemplateError::Input { field, .. }) => field,
            other => panic!("{other:?}"),
        };
    let extra = |name: &str| RenderOptions {
        extra: Map::from_iter([(name.to_owned(), Value::from(1))]),
        ..RenderOptions::default()
    };
    let go_on = RenderOptions { continue_final_message: true, ..RenderOptions::default() };
    let both = RenderOptions { add_generation_prompt: true, ..go_on.clone() };
    let hello = json!([{"role": "user", "content": "hello"}]);
    assert_eq!(refused(json!([{"role": "user", "content": ""}, "hello"]), RenderOptions::default()), "messages[1]");
    assert_eq!(refused(json!([{"content": "hello"}]), RenderOptions::default()), "messages[0]");
    assert_eq!(refused(hello.clone(), extra("messages")), "extra.messages");
    assert_eq!(refused(hello, both), "continue_final_message");
    assert_eq!(refused(json!([]), go_on.clone()), "continue_final_message");
    assert_eq!(refused(json!([{"role": "user", "content": null}]), go_on.clone()), "continue_final_message");
    assert_eq!(refused(json!([{"role": "user"}]), go_on), "continue_final_message");
}

#[test]
fn without_a_given_time_the_clock_is_asked() {
    let year: i32 = render("{{ strftime_now('%Y') }}", json!([])).unwrap().parse().unwrap();
    assert!(year >= 2024);
}
