//! The black-box tests where jobs are programs, and where the worker is behind guard: which of them run.
//!
//! Owns the lists of those that do not, each with its reason. Refuses to leave out anything else.

use crate::say;

/// Words in the names of tests that are left out, behind the reason.
type LeftOut = &'static [(&'static str, &'static [&'static str])];

/// Where jobs are programs.
pub(crate) const PROGRAMS: LeftOut = &[
    (
        "the same code whatever jobs are",
        &[
            "blip::",
            "cli::",
            "config::",
            "otel::",
            "secrets::",
            "systemd::",
            "wire::",
            "reg_1_twenty_reconnects",
            "reg_3_a_name",
            "reg_3_a_path",
            "reg_3_a_proxy",
            "reg_3_a_server",
            "reg_3_each_connection",
            "reg_3_no_proxy",
            "reg_3_path",
            "reg_3_tls",
        ],
    ),
    (
        "code of the user in the worker's own process; a program has a command or a service that decides, and is one",
        &[
            "job_1_a_late_yes_is_dropped",
            "job_1_a_panicking_handler_declines",
            "job_3_the_report_has_the_causes_too",
            "job_4_at_its_threshold_a_worker_is_full",
            "job_4_available_is_always_under_the_servers_target",
        ],
    ),
    (
        "threads of the user in the worker's own process, which a program cannot hold",
        &[
            "job_1_wedged_user_code_declines_and_says_full",
            "job_1_wedged_user_code_is_taken_back_when_it_runs_again",
            "agents_5856_while_user_code_blocks",
        ],
    ),
    (
        "a main of the user around the worker",
        &[
            "drain_1_with_threads_that_existed_before_run",
            "drain_1_inside_a_runtime_the_program_is_refused",
            "drain_1_a_child_of_user_code_inherits_an_empty_mask",
            "what_main_does_before_run_is_done_again_and_warned_about",
        ],
    ),
    (
        "processes that wait for a job, prewarmed; a program is started for one",
        &[
            "idle::",
            "drain_1_while_prewarming",
            "job_3_a_process_that_does_not_start_fails_its_job",
            "a_worker_whose_first_process_does_not_start_says_why",
            "an_idle_process_that_dies_is_replaced",
        ],
    ),
    (
        "a thousand offers a second would be as many processes",
        &[
            "drain_3_a_storm_finds_nobody",
            "drain_11_quiet_and_back_under_a_storm",
            "drain_1_in_a_storm_of_offers",
        ],
    ),
    (
        "docs/exec.md has rules of its own, which the tests of `last-call run` try",
        &[
            "limits::",
            "job_3_every_end_of_a_process_is_reported_in_words_and_touches_no_other",
            "drain_9_signals_to_every_process_cut_no_job",
            "a_binary_that_a_deploy_replaces_starts_no_other_version",
        ],
    ),
];

/// Where the worker is behind guard.
pub(crate) const GUARDED: LeftOut = &[
    (
        "in the worker's own log and output, which guard leaves alone",
        &[
            "a_job_goes_past_a_process_that_is_frozen",
            "a_worker_whose_first_process_does_not_start_says_why",
            "drain_10_what_a_job_started_ends_with_it",
            "job_3_a_job_that_the_server_ends_is_told_and_reported",
            "job_3_more_memory_than_allowed_ends_the_job_and_no_other",
            "operators_see_what_each_job_s_process_uses_until_it_ends",
        ],
    ),
    (
        "jobs hear of a drain when the worker does, which is when its last call is over",
        &["drain_7_a_job_sees_the_drain_before_it_is_told_to_stop"],
    ),
    ("an option of the worker, which guard does not read", &["a_limit_for_jobs_that_are_tasks_is_refused"]),
    (
        "a worker of ours answers while its user code does not run, and guard counts what guard decides",
        &[
            "job_1_wedged_user_code_declines_and_says_full",
            "job_4_at_its_threshold_a_worker_is_full",
            "the_watchdog_hears_of_the_link_though_user_code_blocks",
        ],
    ),
    (
        "at the deadline guard ends a worker's calls, and then the worker, which has no ladder or spans of it",
        &[
            "a_job_that_is_cut_off_by_the_exit_is_seen",
            "drain_6_the_budget_is_the_whole_of_it_whatever_jobs_do",
            "what_ends_a_job_is_an_event_of_its_span",
        ],
    ),
    (
        "the stub has no API, and so a call that ends when told has no other agent, which guard counts",
        &["drain_8_a_cut_end_lists_each_job"],
    ),
    ("guard has no spans", &["each_outage_of_a_collector_is_one_warning_for_each_kind"]),
    ("a message that guard does not know is passed on", &["wire_1_messages_that_make_no_sense_are_counted"]),
    (
        "the program that starts is probe itself, without guard",
        &["a_binary_that_a_deploy_replaces_starts_no_other_version"],
    ),
    (
        "what a program of the user does beside its worker says nothing of guard, and is not behind it",
        &[
            "drain_1_a_child_of_user_code_inherits_an_empty_mask",
            "drain_1_inside_a_runtime_the_program_is_refused",
            "drain_1_with_threads_that_existed_before_run",
            "job_1_a_late_yes_is_dropped",
            "job_1_a_panicking_handler_declines",
            "job_3_the_report_has_the_causes_too",
            "what_main_does_before_run_is_done_again_and_warned_about",
        ],
    ),
];

/// Says what is left out, and gives it as arguments of a test program.
pub(crate) fn skip(run: &str, left_out: LeftOut) -> Vec<&'static str> {
    for (reason, names) in left_out {
        say::progress(format_args!("not {run} ({reason}): {}", names.join(" ")));
    }
    left_out.iter().flat_map(|(_, names)| names.iter().flat_map(|name| ["--skip", name])).collect()
}

#[test]
fn whatever_is_left_out_is_there() {
    use crate::workspace;

    const TESTS: &str = "examples/tests/blackbox/";
    let files = workspace::files().expect("tests run in a checkout");
    let modules = files.iter().filter_map(|file| {
        let module = file.path.strip_prefix(TESTS)?.strip_suffix(".rs")?;
        Some((module, crate::clauses::tests(&file.text)))
    });
    let known: Vec<String> = modules
        .flat_map(|(module, tests)| tests.into_iter().map(move |test| format!("{module}::{test}")))
        .collect();
    let names = [PROGRAMS, GUARDED].into_iter().flatten().flat_map(|(_, names)| names.iter());
    let gone: Vec<&&str> = names.filter(|name| !known.iter().any(|test| test.contains(**name))).collect();
    assert!(gone.is_empty(), "no test is called so any more: {gone:?}");
}
