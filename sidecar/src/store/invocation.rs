//! Commands of script calls: one invocation of a script for many calls, so that it reads and writes each counter once.
//!
//! Its KEYS and ARGV are as `lua/prelude.lua` reads them. Calls share an invocation if they are of one script and one
//! time and, on a cluster, of one scope, since a script may touch the keys of one slot only. A counter has one window
//! in an invocation: a call with another limit for it, as configurations have that take each other's place, begins the
//! next invocation.

use super::call::{self, Call};
use crate::script::Script;
use llm_rate_limit::store::keys;
use llm_rate_limit::store::wire::Charge;
use llm_rate_limit::window::Window;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ServerErrorKind, ToRedisArgs, Value};
use std::collections::HashMap;

/// The maximum number of charges of the calls that share an invocation: a millisecond or two in which Redis serves
/// nobody else. A single call may have more.
const MAX_CHARGES: usize = 512;

/// One invocation of a script, for some of the calls of a batch.
#[derive(Clone, Debug)]
pub struct Invocation {
    script: &'static Script,
    by_hash: Cmd,
    /// The places of its calls in the batch.
    places: Vec<usize>,
}

impl Invocation {
    /// An invocation of a script without windows, on one key.
    pub fn of_key(script: &'static Script, key: &str, args: &[&str]) -> Self {
        Self::of_keys(script, &[key], args)
    }

    /// The same on several keys.
    pub fn of_keys<T: ToRedisArgs>(script: &'static Script, keys: &[T], args: &[T]) -> Self {
        let mut by_hash = command(script, keys.len());
        by_hash.arg(keys).arg(args);
        Self { script, by_hash, places: Vec::new() }
    }

    /// The invocations of `calls`, in an order that keeps that of the calls to each counter. `is_cluster` tells whether
    /// scopes are on different servers.
    pub fn of_calls(calls: &[Call<'_>], is_cluster: bool) -> Vec<Self> {
        let mut drafts: Vec<Draft<'_>> = Vec::new();
        let mut newest: HashMap<&str, usize> = HashMap::new();
        for (place, call) in calls.iter().enumerate() {
            let slot = if is_cluster { call.scope } else { "" };
            let draft = newest.get(slot).and_then(|at| drafts.get_mut(*at));
            if !draft.is_some_and(|draft| draft.takes(place, call)) {
                newest.insert(slot, drafts.len());
                drafts.push(Draft::of(place, call));
            }
        }
        drafts.into_iter().map(Draft::finish).collect()
    }

    /// The command by the script's hash, which fails with NOSCRIPT if Redis does not know the script.
    pub fn by_hash(&self) -> &Cmd {
        &self.by_hash
    }

    /// The command with the script's source, after which Redis knows the hash.
    pub fn by_source(&self) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(self.script.source);
        for arg in self.by_hash.args_iter().skip(2) {
            if let redis::Arg::Simple(bytes) = arg {
                command.arg(bytes);
            }
        }
        command
    }

    /// The reply to each of its calls, with the call's place in the batch: integers, or the error in their place. An
    /// error in reply to the command is one for all of them.
    pub fn replies(
        &self,
        reply: RedisResult<Value>,
    ) -> impl Iterator<Item = (usize, RedisResult<Vec<i64>>)> + '_ {
        let replies = match reply {
            Ok(Value::Array(replies)) if replies.len() == self.places.len() => Ok(replies),
            Ok(_) => {
                Err(RedisError::from((ErrorKind::UnexpectedReturnType, "the script's reply is invalid")))
            }
            Err(why) => Err(why),
        };
        let mut replies = replies.map(Vec::into_iter);
        self.places.iter().map(move |place| {
            let reply = match &mut replies {
                Ok(replies) => integers(replies.next().unwrap_or(Value::Nil)),
                Err(why) => Err(why.clone()),
            };
            (*place, reply)
        })
    }
}

/// A script's reply to one call: a list of integers, or a single one, or a text, which says what is wrong.
fn integers(reply: Value) -> RedisResult<Vec<i64>> {
    match reply {
        Value::Int(one) => Ok(vec![one]),
        Value::BulkString(why) => {
            let why = String::from_utf8_lossy(&why).into_owned();
            Err(RedisError::from((ErrorKind::Server(ServerErrorKind::ResponseError), "the script", why)))
        }
        many => Ok(Vec::from_redis_value(many)?),
    }
}

/// The beginning of a command that runs `script` on so many keys.
fn command(script: &Script, keys: usize) -> Cmd {
    let mut command = redis::cmd("EVALSHA");
    command.arg(&script.sha).arg(keys);
    command
}

/// A counter, however the calls spell the rest of its window.
#[derive(PartialEq, Eq, Hash)]
struct Counter<'a> {
    namespace: &'a str,
    scope: &'a str,
    identity: &'a str,
    name: &'a str,
    window: Window,
}

fn counter<'a>(call: &'a Call<'a>, charge: &'a Charge) -> Counter<'a> {
    Counter {
        namespace: call.space.namespace(),
        scope: call.scope,
        identity: call.identity(charge),
        name: &charge.name,
        window: charge.window.counted(),
    }
}

/// An invocation that may still take calls.
struct Draft<'a> {
    first: &'a Call<'a>,
    /// Each call, with its place and the numbers of its windows.
    calls: Vec<(usize, &'a Call<'a>, Vec<usize>)>,
    /// Each window once, with the call that named it first.
    windows: Vec<(&'a Call<'a>, &'a Charge)>,
    numbers: HashMap<Counter<'a>, usize>,
    charges: usize,
}

impl<'a> Draft<'a> {
    fn of(place: usize, call: &'a Call<'a>) -> Self {
        let (calls, windows, numbers) = (Vec::new(), Vec::new(), HashMap::new());
        let mut draft = Self { first: call, calls, windows, numbers, charges: 0 };
        draft.add(place, call);
        draft
    }

    /// Takes `call` if it can. Returns whether it did.
    fn takes(&mut self, place: usize, call: &'a Call<'a>) -> bool {
        let fits = self.charges + call.charges.len() <= MAX_CHARGES;
        let is_alike = (self.first.script.name, self.first.now_ms) == (call.script.name, call.now_ms);
        let takes = fits && is_alike && call.charges.iter().all(|(charge, _)| self.agrees(call, charge));
        if takes {
            self.add(place, call);
        }
        takes
    }

    /// Whether the window of `charge` is new, or the same as before.
    fn agrees(&self, call: &'a Call<'a>, charge: &'a Charge) -> bool {
        let number = self.numbers.get(&counter(call, charge));
        let before = number.and_then(|number| self.windows.get(*number));
        before.is_none_or(|(_, before)| {
            (before.limit, before.enforced, before.window) == (charge.limit, charge.enforced, charge.window)
        })
    }

    fn add(&mut self, place: usize, call: &'a Call<'a>) {
        let Self { windows, numbers, charges, .. } = self;
        let of_call = call.charges.iter().map(|(charge, _)| {
            *numbers.entry(counter(call, charge)).or_insert_with(|| {
                windows.push((call, charge));
                windows.len() - 1
            })
        });
        let of_call: Vec<usize> = of_call.collect();
        *charges += of_call.len();
        self.calls.push((place, call, of_call));
    }

    fn finish(self) -> Invocation {
        let Call { script, now_ms, .. } = *self.first;
        let records: Vec<String> = self.calls.iter().filter_map(|(_, call, _)| call.record()).collect();
        let mut indexes: Vec<String> = Vec::new();
        let windows: Vec<(usize, &Charge)> = self
            .windows
            .iter()
            .map(|(call, charge)| {
                let index = call.space.index(call.scope, call.identity(charge));
                // Those of an identity are neighbours, mostly.
                if indexes.last() != Some(&index) {
                    indexes.push(index);
                }
                (self.windows.len() + indexes.len(), *charge)
            })
            .collect();
        let mut command = command(script, windows.len() + indexes.len() + records.len());
        for (call, charge) in &self.windows {
            command.arg(call.space.counter(call.scope, call.identity(charge), &charge.name, &charge.window));
        }
        command.arg(&indexes).arg(&records).arg(now_ms).arg(windows.len()).arg(indexes.len());
        for (index, Charge { name, window, limit, enforced, .. }) in windows {
            command
                .arg(window.algorithm.name())
                .arg(window.length.get().get())
                .arg(&*call::parameter(window));
            command.arg(limit.get()).arg(u8::from(*enforced)).arg(index).arg(keys::index_field(name, window));
        }
        for (_, call, windows) in &self.calls {
            command.arg(&call.values).arg(windows.len());
            for (window, (_, cost)) in windows.iter().zip(&call.charges) {
                command.arg(window + 1).arg(cost.get());
            }
        }
        let places = self.calls.iter().map(|(place, ..)| *place).collect();
        Invocation { script, by_hash: command, places }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{self, in_scope};
    use crate::store::call::{Group, groups};
    use llm_rate_limit::quantity::{NonZeroMillis, Units};
    use llm_rate_limit::store::wire::ScopeCharges;

    fn charge(name: &str) -> Charge {
        Charge { identity: "me".into(), cost: Units::new(7), ..examples::charge(name) }
    }

    fn of(scope: &str, charges: &[Charge]) -> [ScopeCharges; 1] {
        [in_scope(scope, charges)]
    }

    fn group(charges: &[ScopeCharges]) -> Group<'_> {
        groups("", "id", charges).unwrap().remove(0)
    }

    /// The places of the calls in each invocation.
    fn places(calls: &[Call<'_>], is_cluster: bool) -> Vec<Vec<usize>> {
        Invocation::of_calls(calls, is_cluster).into_iter().map(|one| one.places).collect()
    }

    fn text(command: &Cmd) -> String {
        String::from_utf8_lossy(&command.get_packed_command())
            .lines()
            .skip(2)
            .step_by(2)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn a_window_is_named_once_for_all_calls() {
        let (requests, tokens) = (charge("requests"), Charge { cost: Units::new(9), ..charge("tokens") });
        let [both, one] = [of("a", &[requests.clone(), tokens]), of("a", &[requests])];
        let calls = [group(&both).reserve("x", 5), group(&one).reserve("y", 5)];
        let [invocation] = &Invocation::of_calls(&calls, true)[..] else { panic!() };
        let expected = format!(
            "EVALSHA {} 5 llmrl:3::{{a}}:me:requests:1m llmrl:3::{{a}}:me:tokens:1m llmrl:3::{{a}}:me \
             llmrl:3::{{a}}:reservation:x llmrl:3::{{a}}:reservation:y 5 2 1 \
             sliding_window 60000 60 100 1 3 requests:1m sliding_window 60000 60 100 1 3 tokens:1m \
             any open 2 1 7 2 9 any open 1 1 7",
            crate::script::RESERVE.sha
        );
        assert_eq!(text(invocation.by_hash()), expected);
        let args = |command: &Cmd| -> Vec<Vec<u8>> {
            let simple = command.args_iter().map(|arg| match arg {
                redis::Arg::Simple(bytes) => bytes.to_vec(),
                _ => panic!("no bytes"),
            });
            simple.collect()
        };
        let by_source = args(&invocation.by_source());
        assert_eq!(by_source[..2], [b"EVAL".to_vec(), crate::script::RESERVE.source.into()]);
        assert_eq!(by_source[2..], args(invocation.by_hash())[2..]);
    }

    #[test]
    fn scopes_share_an_invocation_unless_they_are_on_different_servers() {
        let [a, b] = ["a", "b"].map(|scope| of(scope, &[charge("requests")]));
        let calls = [&a, &b, &a, &b].map(|charges| group(charges).reserve("x", 0));
        assert_eq!(places(&calls, false), [[0, 1, 2, 3]]);
        assert_eq!(places(&calls, true), [[0, 2], [1, 3]]);
    }

    #[test]
    fn what_does_not_go_together_is_apart_and_keeps_its_order() {
        let same = of("a", &[charge("requests")]);
        let others = [
            of("a", &[Charge { limit: Units::new(9), ..charge("requests") }]),
            of("a", &[Charge { enforced: false, ..charge("requests") }]),
        ];
        for other in &others {
            let calls = [&same, other, &same].map(|charges| group(charges).reserve("x", 0));
            assert_eq!(places(&calls, false), [[0], [1], [2]]);
        }
        let calls =
            [group(&same).reserve("x", 0), group(&same).release("x", 0), group(&same).release("x", 7)];
        assert_eq!(places(&calls, false), [[0], [1], [2]]);
        let buckets = [5, 6].map(|burst| {
            let window = Window::token_bucket(NonZeroMillis::MINUTE, Units::new(burst));
            of("a", &[Charge { window, ..charge("requests") }])
        });
        assert_eq!(places(&buckets.each_ref().map(|one| group(one).peek(0)), false), [[0], [1]]);
    }

    #[test]
    fn an_invocation_has_a_maximum_of_charges() {
        let many: Vec<Charge> = (0..MAX_CHARGES / 2).map(|n| charge(&n.to_string())).collect();
        let many = of("a", &many);
        let calls = [(); 5].map(|()| group(&many).peek(0));
        assert_eq!(places(&calls, false), [vec![0, 1], vec![2, 3], vec![4]]);
        let more: Vec<Charge> = (0..2 * MAX_CHARGES).map(|n| charge(&n.to_string())).collect();
        assert_eq!(places(&[group(&of("a", &more)).peek(0)], false), [[0]]);
    }

    #[test]
    fn each_call_gets_its_reply_and_an_error_of_the_command_is_everyones() {
        let one = of("a", &[charge("requests")]);
        let calls = [(); 3].map(|()| group(&one).release("x", 0));
        let [invocation] = &Invocation::of_calls(&calls, false)[..] else { panic!() };
        let texts = |reply| -> Vec<Result<Vec<i64>, String>> {
            invocation.replies(reply).map(|(_, reply)| reply.map_err(|why| why.to_string())).collect()
        };
        let reply =
            vec![Value::Int(1), Value::BulkString(b"wrong".to_vec()), Value::Array(vec![Value::Int(2)])];
        let of_each = texts(Ok(Value::Array(reply)));
        assert_eq!((&of_each[0], &of_each[2]), (&Ok(vec![1]), &Ok(vec![2])));
        assert!(of_each[1].as_ref().is_err_and(|why| why.contains("wrong")), "{of_each:?}");
        for reply in
            [Ok(Value::Array(Vec::new())), Ok(Value::Int(1)), Err(RedisError::from((ErrorKind::Io, "x")))]
        {
            assert!(texts(reply).iter().all(Result::is_err));
        }
    }
}
