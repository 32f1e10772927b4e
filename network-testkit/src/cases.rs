//! The list of cases. A new case is a function in the module of its group and a line here;
//! in brackets stands what it needs, if anything.

use crate::run::{Case, Need};

/// Makes a named test of every case, for one backend.
///
/// It takes an expression for a [`Fixture`](crate::Fixture), and makes a module for each
/// group of cases where it stands: use it once in a file or module.
#[macro_export]
macro_rules! conformance {
    ($fixture:expr $(,)?) => {
        $crate::__list! { [$crate::__tests] [$fixture] }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    ([$fixture:expr] $($group:ident { $($case:ident $([$($need:ident)*])?;)* })*) => {
        fn conformance_fixture() -> ::std::boxed::Box<dyn $crate::Fixture> {
            ::std::boxed::Box::new($fixture)
        }
        $(
            mod $group {
                $(
                    #[test]
                    fn $case() {
                        $crate::run(
                            concat!(stringify!($group), "::", stringify!($case)),
                            super::conformance_fixture(),
                        );
                    }
                )*
            }
        )*
    };
}

macro_rules! table {
    ([] $($group:ident { $($case:ident $([$($need:ident)*])?;)* })*) => {
        $(mod $group;)*

        pub(crate) const CASES: &[Case] = &[$($(
            Case {
                name: concat!(stringify!($group), "::", stringify!($case)),
                needs: &[$($(Need::$need),*)?],
                body: |lab| Box::pin($group::$case(lab)),
            },
        )*)*];
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __list {
    ([$($callback:tt)*] [$($with:tt)*]) => {
        $($callback)*! {
            [$($with)*]
            naming {
                fresh_names_are_distinct;
                fresh_names_are_distinct_when_bound_at_once;
                a_port_knows_its_name_and_its_network;
                a_bound_name_cannot_be_bound_again;
                a_revoked_name_can_be_bound_again;
                one_of_many_binds_of_a_name_wins;
                the_longest_listening_prefix_wins [prefix_listening];
                the_next_shorter_name_answers_for_one_that_does_not_listen [prefix_listening];
                a_name_is_no_prefix_of_one_with_more_characters [prefix_listening];
                ports_share_a_socket_by_the_rest_of_their_names [shares_sockets];
                an_endpoint_of_no_backend_is_told_what_there_is;
                an_endpoint_of_a_missing_backend_is_told_its_feature;
                a_malformed_endpoint_is_told_apart;
                a_network_binds_no_more_ports_than_its_limit;
                the_allocator_names_local_ports [local_names];
                the_allocator_names_ibc_ports [ibc_ports];
            }
            accepting {
                an_attempt_tells_who_dials_whom;
                a_listener_is_told_in_order;
                a_declined_dialer_is_told_why_and_asks_once;
                a_port_that_does_not_listen_turns_dialers_away;
                a_name_that_nobody_has_turns_dialers_away;
                a_listener_without_on_accept_declines;
                another_version_is_agreed_on_or_declined;
                a_slow_decision_holds_up_nobody_else;
                a_decision_that_takes_too_long_is_a_no;
                a_listener_is_told_of_a_dialer_that_goes_away;
                another_listener_replaces_the_first;
                a_refused_on_listen_leaves_a_port_as_it_was;
                a_port_can_stop_listening_and_listen_again;
                a_listener_that_panics_declines;
                attempts_are_accepted_rejected_or_dropped;
                accepting_an_attempt_that_is_over_fails;
                too_many_waiting_attempts_are_declined;
                waiting_attempts_whose_dialer_has_gone_make_room;
                a_network_holds_no_more_connections_than_its_limit;
                too_many_handshakes_are_turned_away [wire];
                a_port_can_listen_and_connect_in_one_network [reaches_itself];
            }
            admission {
                both_ends_know_who_the_other_is_or_neither_does;
                a_listener_sees_whom_the_connection_then_names;
                who_is_denied_is_told_so_and_the_listener_is_not_asked;
                who_is_denied_while_the_listener_decides_does_not_come_in;
                a_new_policy_holds_for_who_waits_for_the_listener;
                the_networks_policy_holds_for_its_ports;
                only_who_proves_a_peer_id_comes_in_where_that_is_asked_for;
                no_more_connections_than_a_cap_are_open;
                a_peer_and_a_source_have_no_more_than_their_share;
                a_place_is_given_back_whatever_ends_an_attempt;
            }
            records {
                arrive_in_order [ordered];
                sizes_from_zero_to_the_limit;
                the_longest_record_by_default_is_whole;
                are_whole_around_the_sizes_of_buffers;
                over_the_limit_are_too_large;
                the_smaller_limit_of_both_sides_holds [agrees_on_limits];
                many_in_flight_are_all_acked;
                of_many_tasks_each_get_their_own_ack;
                go_both_ways_at_once;
                are_handled_one_at_a_time_if_asked_for;
                are_handled_at_the_same_time_otherwise;
                do_not_wait_for_on_open;
                can_be_sent_from_on_open;
                can_be_sent_while_one_is_handled;
                of_one_connection_do_not_wait_for_another;
                of_many_connections_do_not_mix;
            }
            acks {
                are_empty_without_an_on_receive;
                can_be_empty [empty_records];
                come_in_any_order [acks_overtake];
                can_come_late [acks_overtake];
                of_any_size_up_to_the_limit_are_whole;
                over_the_limit_become_a_refusal [agrees_on_limits];
                pulled_over_the_limit_become_a_refusal;
                that_refuse_leave_the_connection_open;
                that_refuse_tell_an_error_with_its_causes;
                that_refuse_at_length_are_cut;
                of_a_handler_that_panics_are_a_refusal_and_a_close;
                of_other_connections_survive_a_panic;
                are_lost_when_on_open_panics;
                are_not_touched_by_a_panic_in_on_close;
                do_not_wait_for_the_handler_of_another_record [acks_overtake];
            }
            window {
                of_records_is_never_passed;
                of_bytes_is_never_passed;
                is_the_smaller_one_of_both_sides [agrees_on_limits];
                has_room_for_the_longest_record;
                comes_back_with_a_permit;
                comes_back_with_the_bytes_that_a_permit_did_not_use;
                comes_back_with_a_permit_used_for_too_much;
                comes_back_with_a_refusal;
                lets_all_who_wait_finish;
                keeps_the_order_of_those_who_wait;
                is_not_taken_by_small_records_from_a_large_one;
                of_one_direction_does_not_hold_up_the_other;
                may_be_full_both_ways_with_nobody_reading;
                is_waited_for_without_losing_wakeups;
            }
            cancellation {
                of_a_send_before_there_was_room_sends_nothing;
                of_a_send_on_its_way_takes_nothing_back;
                of_an_ack_throws_only_that_away;
                of_a_reserve_passes_its_turn_on;
                of_a_reserve_in_a_task_passes_its_turn_on;
                of_a_recv_loses_no_record;
                of_an_attempt_s_next_loses_no_attempt;
                of_a_connect_opens_nothing;
                of_a_connect_at_any_poll_opens_nothing;
                of_a_bind_leaves_the_name_free;
                of_a_listen_goes_on;
                of_a_close_goes_on;
                of_a_closed_changes_nothing;
                of_a_revoke_goes_on;
                of_a_shutdown_leaves_the_rest_to_another;
            }
            deadlines {
                that_pass_before_there_is_room_send_nothing [local_deadlines];
                that_pass_on_the_way_leave_the_delivery_unknown [local_deadlines];
                that_do_not_pass_change_nothing;
                that_are_proved_say_not_delivered [proves_timeouts];
            }
            closing {
                tells_both_handlers_once;
                has_called_on_close_when_it_returns;
                twice_changes_nothing;
                from_both_sides_at_once_is_one_close;
                ends_sending_on_both_sides;
                frees_both_ports;
                ends_the_wait_for_room;
                makes_a_permit_useless;
                from_on_open_works;
                from_on_receive_works [proves_delivery];
                from_on_close_works;
                during_on_open_calls_on_close_all_the_same;
                does_not_wait_for_a_handler_that_never_ends;
                ends_where_a_handler_never_ends;
                lets_a_handler_that_still_runs_go_on;
                does_not_happen_when_handles_are_dropped;
                drops_the_handler;
            }
            delivery {
                of_all_that_was_sent_comes_before_the_close [ordered proves_delivery];
                of_what_is_queued_behind_a_handler_is_waited_for [ordered proves_delivery];
                is_told_of_a_record_in_its_handler [proves_delivery];
                is_denied_of_a_queued_record [ordered proves_delivery];
                is_denied_of_a_record_nobody_pulled [ordered proves_delivery];
                is_known_of_every_record_of_a_close_under_load [proves_delivery];
            }
            revoking {
                of_the_listening_port_closes_what_it_accepted;
                of_the_dialing_port_closes_what_it_dialed;
                closes_every_connection_of_the_port;
                leaves_other_ports_alone;
                twice_is_an_error;
                many_times_at_once_works_once;
                ends_all_uses_of_the_port;
                removes_the_listener;
                ends_the_attempts;
                tells_what_became_of_records [proves_delivery];
                of_the_dialing_port_ends_a_connect;
                of_the_listening_port_ends_a_connect;
                beside_connects_leaves_nothing_open;
                is_told_to_who_was_just_welcomed;
                beside_binds_gives_the_name_to_one;
                from_a_handler_works [proves_delivery];
                from_on_accept_works;
                beside_a_close_is_one_close;
            }
            shutdown {
                lets_records_of_both_directions_be_acked;
                ends_binding_at_once;
                cuts_at_its_deadline [proves_delivery];
                ends_every_use_of_the_network;
                turns_dialers_away;
                frees_names_for_another_network [names_move];
                twice_changes_nothing;
                of_the_dialing_side_closes_too;
            }
            sharing {
                tells_connections_apart;
                works_for_dialed_and_accepted_ends;
                survives_a_listener_that_is_replaced;
                is_up_to_the_listener;
                can_pass_records_between_connections;
            }
            pulling {
                gives_records_in_order [ordered];
                refuses_with_a_text;
                refuses_what_is_dropped;
                can_be_answered_elsewhere_and_later [acks_overtake];
                closes_when_records_are_dropped;
                ends_with_the_connection;
                gives_what_came_before_a_remote_close [ordered proves_delivery];
                an_answer_after_the_close_does_no_harm;
                works_at_both_ends;
                mixes_with_a_handler_at_the_other_end;
            }
            stats {
                begin_at_zero;
                count_records_and_answers;
                count_what_is_un_acked_and_who_waited;
                last_beyond_the_close;
            }
            openings {
                garbage_is_turned_away [raw];
                an_opening_cut_short_is_turned_away [raw];
                another_version_is_told_so [raw];
                an_endless_opening_is_turned_away [raw];
                an_impossible_window_is_turned_away [raw];
                words_before_the_welcome_end_the_attempt [raw];
                a_slow_opening_is_cut_off [raw];
                silence_is_cut_off [raw];
                silent_peers_keep_nobody_out [raw];
                a_peer_that_writes_byte_by_byte_is_understood [raw];
            }
            hostile {
                a_record_over_the_limit_breaks_the_protocol [raw];
                records_over_the_window_break_the_protocol [raw];
                bytes_over_the_window_break_the_protocol [raw];
                an_unknown_frame_breaks_the_protocol [raw];
                a_stale_ack_breaks_the_protocol [raw];
                a_second_ack_breaks_the_protocol [raw];
                an_ack_over_the_limit_breaks_the_protocol [raw];
                a_text_that_is_none_breaks_the_protocol [raw];
                a_record_after_a_close_breaks_the_protocol [raw];
                a_second_close_breaks_the_protocol [raw];
                a_last_word_too_early_breaks_the_protocol [raw];
                a_record_cut_short_reaches_nobody [raw];
                a_peer_that_vanishes_leaves_delivery_unknown [raw];
                a_peer_that_falls_silent_is_given_up [raw];
                a_peer_that_answers_pings_is_kept [raw];
                a_peer_that_never_says_goodbye_is_not_waited_for [raw];
                a_flood_that_reads_no_acks_is_bounded [raw];
                a_flood_of_pings_is_bounded [raw];
            }
            impostor {
                that_talks_garbage_is_incompatible [raw];
                of_another_version_is_incompatible [raw];
                that_answers_with_a_hello_is_incompatible [raw];
                with_an_endless_opening_is_incompatible [raw];
                that_is_silent_is_given_up [raw];
                that_stops_in_its_opening_is_given_up [raw];
                that_hangs_up_is_no_timeout [raw];
                that_says_no_in_an_unknown_way_is_a_no [raw];
                whose_words_come_with_the_welcome_is_heard [raw];
                whose_limits_are_small_is_obeyed [raw];
                that_breaks_the_protocol_is_left [raw];
            }
        }
    };
}

__list! { [table] [] }
