// Package door is the one check of one act: every mechanism asks it, so that the
// order of the checks is in one place.
//
//	act := door.Act{Plugin: id, Verb: verb, Object: name, Permit: permit, Cause: cause, MaxDepth: 32}
//	parcel := door.Parcel{Data: data}
//	now, refusal := door.Check(clock, &act, &parcel)
//
// # Order
//
// [Check] asks for the structure of the name, the right, the depth of the chain,
// the rate, then for the payload, and last for its bytes. The first that refuses
// gives the reason. So what is cheap comes first, no right is spent on nonsense,
// an act over the rate costs no walk of its payload, and what is refused for its
// payload has taken no bytes. An act takes from the rate as soon as it comes that
// far, for a flood of bad payloads is a flood.
//
// # Copies
//
// After Check, the parcel holds what was checked and nothing else: the sender's
// data frozen (see package payload), and a copy of its headers.
//
// # Callers
//
// The permit is what the plugin's guard said, passed through [Sound] once where
// it was got; it may be kept as long as the guard's Version is the permit's. Check
// asks no guard and records nothing: the caller gives a refusal to Guard.Refuse,
// and compares the versions again where the act takes effect. A client without a
// guard has the one of [Open].
//
// An act that is admitted costs no allocation but for the copies.
package door
