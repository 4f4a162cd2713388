//! A component for the lines of the tables in `plugins/wit/README.md`, and how the contract may grow.

use std::sync::Arc;

use ottla_plugin_host::{
    Action, CallError, ColumnsBuilder, Context, DeadLetterPolicy, Failure, FailureContext, LoadError, Refused,
    Serializer, Setup, Verdict,
};
use ottla_tests::guest::{CONTRACT, Guest, GuestKind, component_of};
use wit_parser::Resolve;

use crate::home::{FIVE, Home, ask};

const WHERE: Context<'static> = Context { topic: "orders", partition: 3, partition_count: 5 };

/// Text of a memory whose bytes at 512 are an answer's columns: kind, bytes, lengths of each, 20 bytes apart.
fn serializer(reads: &str, work: &'static str, fields: &'static str) -> Guest {
    Guest { fields, ..Guest::of(GuestKind::Serializer, reads, work) }
}

fn load(home: &Home, guest: &Guest) -> Arc<Serializer> {
    let admitted = home.admit(&guest.component()).expect("admitted");
    home.host.serializer(&admitted.digest, "").expect("loaded")
}

fn load_policy(home: &Home, guest: &Guest) -> Arc<DeadLetterPolicy> {
    let admitted = home.admit(&guest.component()).expect("admitted");
    home.host.dead_letter_policy(&admitted.digest, "").expect("loaded")
}

fn encode(serializer: &Serializer, values: &[&str]) -> Result<Vec<String>, CallError> {
    let mut builder = ColumnsBuilder::new(serializer.reads());
    for value in values {
        builder.push(Some(b"key"), Some(value.as_bytes()), 7, [(&b"h"[..], Some(&b"1"[..]))]);
    }
    let answer = serializer.encode(&WHERE, &builder.build())?;
    let mut told: Vec<String> = answer.verdicts().map(|verdict| format!("{verdict:?}")).collect();
    told.extend(answer.refused.iter().map(|refused| format!("{refused:?}")));
    Ok(told)
}

#[test]
fn the_three_worlds_are_valid_and_import_nothing() {
    let mut resolve = Resolve::default();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/0.1");
    let (package, _) = resolve.push_path(folder).expect("the contract");
    for world in ["partitioner-plugin", "serializer-plugin", "dead-letter-plugin"] {
        let world = resolve.select_world(&[package], Some(world)).expect("the world");
        assert_eq!((resolve.worlds[world].imports.len(), resolve.worlds[world].exports.len()), (0, 1));
    }
    assert_eq!(resolve.packages[package].name.to_string(), "ottla:plugin@0.1.0");
}

#[test]
fn no_verdicts_accept_all_and_a_zero_accepts_one() {
    let home = Home::new();
    let silent =
        load(&home, &serializer("value", "(call $answer (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))", ""));
    assert_eq!(encode(&silent, &["a", "b"]).unwrap(), ["Accept", "Accept"]);
    let zeros = "(call $answer (i32.const 600) (local.get $records) (i32.const 0) (i32.const 0))";
    let zeros = load(&home, &serializer("value", zeros, ""));
    assert_eq!(encode(&zeros, &["a", "b"]).unwrap(), ["Accept", "Accept"]);
}

#[test]
fn a_rewrite_replaces_what_it_says_and_keeps_the_rest() {
    // Two records: the first gets the value "new" and one header, the second is accepted.
    let fields = r#"
        (data (i32.const 600) "\01\00")
        (data (i32.const 610) "newnameone")
        (data (i32.const 640) "\03\00\00\00\fe\ff\ff\ff")
        (data (i32.const 650) "\01\00\00\00\fe\ff\ff\ff")
        (data (i32.const 660) "\04\00\00\00")
        (data (i32.const 670) "\03\00\00\00")
        (data (i32.const 700) "\02\00\00\00\62\02\00\00\03\00\00\00\80\02\00\00\02\00\00\00")
        (data (i32.const 720) "\04\00\00\00\00\00\00\00\00\00\00\00\8c\02\00\00\02\00\00\00")
        (data (i32.const 740) "\05\00\00\00\65\02\00\00\04\00\00\00\94\02\00\00\01\00\00\00")
        (data (i32.const 760) "\06\00\00\00\69\02\00\00\03\00\00\00\a0\02\00\00\01\00\00\00")"#;
    let fields = fields.replace("(i32.const 650)", "(i32.const 652)").replace("(i32.const 670)", "(i32.const 672)");
    let work = "(call $answer (i32.const 600) (i32.const 2) (i32.const 700) (i32.const 4))";
    let home = Home::new();
    let rewrites = load(&home, &serializer("", work, Box::leak(fields.into_boxed_str())));
    let mut builder = ColumnsBuilder::new(rewrites.reads());
    builder.push(None, None, 0, []);
    builder.push(None, None, 0, []);
    let answer = rewrites.encode(&WHERE, &builder.build()).unwrap();
    let verdicts: Vec<_> = answer.verdicts().collect();
    let [Verdict::Rewrite(rewrite), Verdict::Accept] = &verdicts[..] else { panic!("{verdicts:?}") };
    assert_eq!((rewrite.key, rewrite.value), (None, Some(Some(&b"new"[..]))));
    assert_eq!(rewrite.headers, Some(vec![(&b"name"[..], Some(&b"one"[..]))]));
}

#[test]
fn a_rejected_and_a_dead_lettered_record_have_reason_and_code() {
    let fields = r#"
        (data (i32.const 600) "\02\03")
        (data (i32.const 610) "bad!schema")
        (data (i32.const 640) "\04\00\00\00\fe\ff\ff\ff")
        (data (i32.const 652) "\fe\ff\ff\ff\06\00\00\00")
        (data (i32.const 700) "\28\00\00\00\62\02\00\00\04\00\00\00\80\02\00\00\02\00\00\00")
        (data (i32.const 720) "\29\00\00\00\66\02\00\00\06\00\00\00\8c\02\00\00\02\00\00\00")"#;
    let work = "(call $answer (i32.const 600) (local.get $records) (i32.const 700) (i32.const 2))";
    let home = Home::new();
    let strict = load(&home, &serializer("", work, fields).with("codes", "schema"));
    let mut builder = ColumnsBuilder::new(strict.reads());
    builder.push(None, None, 0, []);
    builder.push(None, None, 0, []);
    let refused = strict.encode(&WHERE, &builder.build()).unwrap().refused;
    let first = Refused { record: 0, code: None, reason: "bad!".to_owned(), dead_letter: false };
    let reason = "the plugin gave no reason".to_owned();
    let second = Refused { record: 1, code: Some("schema".to_owned()), reason, dead_letter: true };
    assert_eq!(refused, [first, second]);
    // A code that no manifest declares would be a label without bound.
    let undeclared = load(&home, &serializer("", work, fields));
    let mut builder = ColumnsBuilder::new(undeclared.reads());
    builder.push(None, None, 0, []);
    builder.push(None, None, 0, []);
    let error = undeclared.encode(&WHERE, &builder.build()).unwrap_err().to_string();
    assert!(error.contains(r#"record 1 has the code "schema"; `codes` of the manifest has none"#), "{error}");
}

#[test]
fn a_verdict_that_no_table_has_breaks_the_contract() {
    let home = Home::new();
    for (number, fits) in [("\\04", false), ("\\05", false), ("\\ff", false), ("\\00", true)] {
        let fields = format!(r#"(data (i32.const 600) "{number}")"#);
        let work = "(call $answer (i32.const 600) (local.get $records) (i32.const 0) (i32.const 0))";
        let guest = load(&home, &serializer("", work, Box::leak(fields.into_boxed_str())));
        assert_eq!(encode(&guest, &["a"]).is_ok(), fits, "{number}");
    }
    let short = "(call $answer (i32.const 600) (i32.const 1) (i32.const 0) (i32.const 0))";
    let short = load(&home, &serializer("", short, ""));
    assert_eq!(encode(&short, &["a", "b"]), Err(CallError::WrongCount { expected: 2, found: 1 }));
}

#[test]
fn columns_that_lie_about_their_lengths_fail_the_batch_and_nothing_else() {
    let home = Home::new();
    for (lengths, told) in [
        ("\\7f\\00\\00\\00", "the lengths of column 2 add up to 127, it has 3 bytes"),
        ("\\fd\\ff\\ff\\ff", "column 2 has the length -3"),
    ] {
        let fields = format!(
            r#"(data (i32.const 600) "\01") (data (i32.const 610) "new") (data (i32.const 640) "{lengths}")
               (data (i32.const 700) "\02\00\00\00\62\02\00\00\03\00\00\00\80\02\00\00\01\00\00\00")"#
        );
        let work = "(call $answer (i32.const 600) (i32.const 1) (i32.const 700) (i32.const 1))";
        let guest = load(&home, &serializer("", work, Box::leak(fields.into_boxed_str())));
        let error = encode(&guest, &["a"]).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}

/// A policy that takes its action from the cause of the failure: the number itself.
#[test]
fn every_action_is_understood_and_an_unknown_one_is_the_default() {
    let work = "(local $i i32)
        (block $done (loop $more
          (br_if $done (i32.ge_u (local.get $i) (local.get $records)))
          (i32.store8 (i32.add (i32.const 600) (local.get $i))
            (i32.load (i32.add (i32.load offset=12 (local.get $columns)) (i32.mul (local.get $i) (i32.const 4)))))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br $more)))
        (call $answer (i32.const 600) (local.get $records) (i32.const 0) (i32.const 0))";
    let home = Home::new();
    let policy = load_policy(&home, &Guest::of(GuestKind::DeadLetterPolicy, "cause", work));
    let mut builder = ColumnsBuilder::new(policy.reads());
    for cause in [0, 1, 2, 3, 4, 5, 6, 7, 8, 99] {
        builder.push_failed(None, None, 0, [], &Failure { cause, ..Failure::default() });
    }
    let actions = policy.decide(&FailureContext { topic: "orders", stage: "produce" }, &builder.build()).unwrap();
    let expected = [
        Action::Default,
        Action::Retry { delay_ms: None },
        Action::DeadLetter { target: None },
        Action::Drop,
        Action::Park { delay_ms: None },
        Action::Pause { delay_ms: None },
        Action::Reject,
        Action::Accept,
        Action::Default,
        Action::Default,
    ];
    assert_eq!(actions, expected);
}

#[test]
fn a_target_and_a_delay_are_read_within_their_bounds() {
    let fields = r#"
        (data (i32.const 600) "\02\01")
        (data (i32.const 610) "dlq.a")
        (data (i32.const 640) "\05\00\00\00\fe\ff\ff\ff")
        (data (i32.const 656) "\ff\ff\ff\ff\ff\ff\ff\ff\05\00\00\00\00\00\00\00")
        (data (i32.const 700) "\51\00\00\00\62\02\00\00\05\00\00\00\80\02\00\00\02\00\00\00")
        (data (i32.const 720) "\50\00\00\00\90\02\00\00\10\00\00\00\00\00\00\00\00\00\00\00")"#;
    let work = "(call $answer (i32.const 600) (local.get $records) (i32.const 700) (i32.const 2))";
    let decide = |fields: String| {
        let home = Home::new();
        let fields = Box::leak(fields.into_boxed_str());
        let policy = load_policy(&home, &Guest { fields, ..Guest::of(GuestKind::DeadLetterPolicy, "", work) });
        let mut builder = ColumnsBuilder::new(policy.reads());
        builder.push(None, None, 0, []);
        builder.push(None, None, 0, []);
        policy.decide(&FailureContext { topic: "orders", stage: "produce" }, &builder.build())
    };
    let actions = decide(fields.to_owned()).unwrap();
    assert_eq!(actions, [Action::DeadLetter { target: Some("dlq.a".to_owned()) }, Action::Retry { delay_ms: Some(5) }]);
    let eternal = fields.replace("\\05\\00\\00\\00\\00\\00\\00\\00\")", "\\ff\\ff\\ff\\ff\\ff\\ff\\ff\\7f\")");
    let error = decide(eternal).unwrap_err().to_string();
    assert!(error.contains("a delay of 9223372036854775807 ms"), "{error}");
}

/// Checks the kinds of the columns it gets against those it expects, and the context by its length.
#[test]
fn what_is_read_is_sent_and_nothing_else() {
    let home = Home::new();
    let cases: [(&str, &[u32], u32); 5] = [
        ("key,value", &[1, 2], 0),
        ("value-prefix:2", &[3], 0),
        ("headers,timestamp", &[4, 5, 6, 7], 0),
        ("header:h,header:none,topic", &[256, 257], 1),
        ("topic,partition", &[], 2),
    ];
    for (reads, kinds, contexts) in cases {
        let mut checks = format!(
            "(if (i32.ne (local.get $column_count) (i32.const {})) (then unreachable))
             (if (i32.ne (local.get $contexts) (i32.const {contexts})) (then unreachable))",
            kinds.len()
        );
        for (at, kind) in kinds.iter().enumerate() {
            let offset = at * 20;
            let check = "(if (i32.ne (i32.load offset=AT (local.get $columns)) (i32.const KIND)) (then unreachable))";
            checks += &check.replace("AT", &offset.to_string()).replace("KIND", &kind.to_string());
        }
        checks.push_str("(call $answer (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))");
        let guest = load(&home, &serializer(reads, Box::leak(checks.into_boxed_str()), ""));
        assert_eq!(encode(&guest, &["abc"]).unwrap(), ["Accept"], "{reads}");
    }
}

#[test]
fn a_partitioner_lets_records_stay_and_refuses_others() {
    let fields = r#"(data (i32.const 600) "\ff\ff\ff\ff\fe\ff\ff\ff")"#;
    let work = "(call $answer (i32.const 600) (local.get $records) (i32.const 0) (i32.const 0))";
    let home = Home::new();
    let partitioner = home.load(&Guest { fields, ..Guest::that(work) }.component());
    assert_eq!(ask(&partitioner, &["a", "b"]), Ok(vec![-1, -2]));
    let columns = crate::home::columns(partitioner.reads(), &["a", "b"]);
    let refused = partitioner.partition(&FIVE, &columns, &mut Vec::new()).unwrap();
    assert_eq!(refused.iter().map(|refused| refused.record).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_binding_without_its_asset_and_one_of_another_kind_are_refused_by_name() {
    let home = Home::new();
    let wants = home.admit(&Guest::default().with("assets", "tenants").component()).unwrap();
    let error = home.host.partitioner(&wants.digest, "").unwrap_err();
    assert!(matches!(&error, LoadError::Start(CallError::NoAsset { name }) if name == "tenants"), "{error}");
    let assets = vec![("tenants".to_owned(), Arc::from(&b"a,b"[..]))];
    home.host.partitioner(&wants.digest, Setup { config: String::new(), assets }).unwrap();
    let error = home.host.serializer(&wants.digest, "").unwrap_err().to_string();
    assert_eq!(error, "it is a partitioner, a serializer is needed");
    let long = "x".repeat(300 << 10);
    let error = home.host.partitioner(home.load(&Guest::default().component()).digest(), &*long).unwrap_err();
    assert!(matches!(error, LoadError::Start(CallError::ConfigTooLarge { bytes_max: 262_144, .. })), "{error}");
}

#[test]
fn a_configuration_may_narrow_what_is_read_and_not_widen_it() {
    // `init` answers one pair: `reads` and a text at 620.
    let narrows = |text: &str| {
        let fields = format!(
            r#"(data (i32.const 600) "reads") (data (i32.const 620) "{text}")
               (data (i32.const 640) "\58\02\00\00\05\00\00\00\6c\02\00\00{}\00\00\00")"#,
            format_args!("\\{:02x}", text.len())
        );
        let init = "(call $ok (i32.const 640) (i32.const 1))";
        let work = "(if (local.get $column_count) (then unreachable)) (call $fill (i32.const 0) (local.get $records))";
        Guest { fields: Box::leak(fields.into_boxed_str()), init, ..Guest::that(work) }.component()
    };
    let home = Home::new();
    let nothing = home.load(&narrows(""));
    assert!(nothing.reads().nothing());
    assert_eq!(ask(&nothing, &["a"]), Ok(vec![0]));
    let wider = home.admit(&narrows("value")).unwrap();
    let error = home.host.partitioner(&wider.digest, "").unwrap_err().to_string();
    assert!(error.contains("`init` answered that it reads `value`, its manifest has `key`"), "{error}");
}

/// A guest of a later 0.1.x runs here as long as it asks for nothing newer; a host of 0.1.0 refuses what it must.
#[test]
fn the_contract_can_grow_without_breaking_a_guest() {
    let home = Home::new();
    let later = CONTRACT.replace("@0.1.0", "@0.1.7").replace(
        "world partitioner-plugin {",
        "interface assignor { assign: func() -> u32; }\nworld assignor-plugin { export assignor; }\nworld partitioner-plugin {",
    );
    let component = component_of(&later, "ottla:plugin/partitioner@0.1.7", &Guest::default());
    assert_eq!(ask(&home.load(&component), &["a", "b"]), Ok(vec![0, 0]));
    // A column of a later version in an answer is passed over.
    let fields = r#"(data (i32.const 600) "\02\00\00\00") (data (i32.const 640) "\e7\03\00\00")"#;
    let work = "(call $answer (i32.const 600) (i32.const 1) (i32.const 640) (i32.const 1))";
    let says_more = home.load(&Guest { fields, ..Guest::that(work) }.component());
    assert_eq!(ask(&says_more, &["a"]), Ok(vec![2]));
    // So is a hint; anything else that is not known is a promise that cannot be kept.
    home.load(&Guest::default().with("hint.batching", "large").component());
    assert!(home.refused(&Guest::default().with("batching", "large").component()).contains("asks for `batching`"));
    let newer =
        Guest { manifest: Vec::new(), ..Guest::default() }.with("kind", "partitioner").with("reads", "key,colour");
    assert!(home.refused(&newer.component()).contains("`reads` is `key,colour`"));
    let next = CONTRACT.replace("@0.1.0", "@0.2.0");
    let error = home.refused(&component_of(&next, "ottla:plugin/partitioner@0.2.0", &Guest::default()));
    assert!(error.contains("built against ottla:plugin/partitioner@0.2.0, this host speaks"), "{error}");
}

#[test]
fn a_plugin_of_the_draft_is_told_how_to_build_it_again() {
    let home = Home::new();
    let draft = crate::home::fixture("draft-0.1.wasm");
    let error = home.refused(&draft);
    assert!(error.contains("built against ottla:plugin/partitioner@0.1.0-draft"), "{error}");
    assert!(error.contains("cargo build --release --target wasm32-unknown-unknown"), "{error}");
    assert!(error.contains("push it again under the same name"), "{error}");
    // One that is in the store since an earlier release says the same when a topic needs it.
    let digest = ottla_plugin_host::Digest::of(&draft);
    std::fs::create_dir_all(home.store().join("wasm")).unwrap();
    std::fs::write(home.store().join(format!("wasm/{digest}.wasm")), &draft).unwrap();
    let contract = home.host.foreign_contract(&digest);
    assert_eq!(contract.as_deref(), Some("ottla:plugin/partitioner@0.1.0-draft"));
    assert_eq!(home.host.foreign_contract(home.load(&Guest::default().component()).digest()), None);
    let error = home.host.partitioner(&digest, "").unwrap_err().to_string();
    assert!(error.contains("@0.1.0-draft") && error.contains("push it again under the same name"), "{error}");
}
