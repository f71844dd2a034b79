package plugbus

import "time"

// A Guard answers, for one plugin, what a mechanism must not decide by itself.
// The hub makes guards from its policy; a mechanism that is used without one
// allows everything.
//
// Its methods do not block, and may be called by several goroutines.
type Guard interface {
	// Version numbers the rules in force. It grows when an answer of Permit,
	// PermitVia or Knows may have changed.
	Version() uint64

	// Permit says whether the plugin may do verb to object, a name or an id.
	// The answer holds until Version changes.
	Permit(verb Verb, object string) *Permit

	// PermitVia is Permit for an act to which a chain of plugins led, where
	// nobody is trusted more than the least trusted of them.
	PermitVia(led Chain, verb Verb, object string) *Permit

	// PermitPattern says whether the plugin may do verb to what pattern
	// matches. If narrow is false, a pattern that is wider than the grant is
	// refused; if it is true, any overlap with the grant will do, and the
	// mechanism asks Permit for each name.
	PermitPattern(verb Verb, pattern string, narrow bool) *Permit

	// PermitAt is Permit under the rules of an earlier version. It refuses
	// with ReasonPolicyUnavailable where these are no longer kept.
	PermitAt(version uint64, verb Verb, object string) *Permit

	// Knows reports whether the plugin may learn that another exists.
	Knows(id string) bool

	// Refuse records a refusal, and returns the error that the plugin gets,
	// which is a *DeniedError.
	Refuse(r Refusal) error
}

// A Permit is the answer of a [Guard]. It is immutable, and shared.
type Permit struct {
	// Version is the version of the rules that gave this answer.
	Version uint64

	// Reason is empty if the act is allowed, and otherwise says why not.
	Reason Reason

	// Partial says that the answer of PermitPattern does not hold for every
	// name of the pattern, so that Permit has to be asked for each. It is false
	// only if no rule denies any of them.
	Partial bool

	// Acts and Bytes meter what is allowed; nil means no limit. The mechanism
	// takes one act before it looks at the payload, and the bytes after it
	// measured them.
	Acts, Bytes Meter

	// Payload bounds and inspects what the act carries.
	Payload PayloadRules

	// Priority is the highest that a message may have.
	Priority Priority

	// Inline says that a message may be handled on its sender's stack. The
	// sender then gives up that it is released by its context.
	Inline bool
}

// Allowed reports whether the act is allowed, as far as a name decides.
func (p *Permit) Allowed() bool { return p.Reason == "" }

// PayloadRules bound and inspect payloads. A zero limit means the default.
type PayloadRules struct {
	MaxBytes int64 // default 1 MiB
	MaxNodes int   // values in the payload, nested ones included; default 100,000
	MaxDepth int   // levels of nesting; default 64

	// Content names the checks that every string of the payload passes.
	Content ContentChecks

	// Shared says that the plugin may pass a value by reference (see [Shared]).
	Shared bool
}

// ContentChecks is a set of content checks. The zero value checks nothing.
type ContentChecks uint8

// The content checks. They are a tripwire for careless plugins and not output
// encoding: whoever puts a payload into a page must still encode it.
const (
	CheckScript    ContentChecks = 1 << iota // a <script tag
	CheckScheme                              // a javascript: URL where a value or an attribute begins
	CheckAttribute                           // an on…= attribute inside a tag

	CheckAll = CheckScript | CheckScheme | CheckAttribute
)

// A Meter limits a rate. Its time never runs back.
type Meter interface {
	// Take takes n at the time now, and returns 0; or takes nothing, and
	// returns how long to wait for n, which is negative if no wait will do.
	Take(now time.Time, n int) time.Duration
}

// A Refusal is what a mechanism tells the guard about an act that it refuses.
type Refusal struct {
	Verb       Verb
	Object     string // as the plugin gave it
	Reason     Reason
	RetryAfter time.Duration // 0 if waiting does not help
	Hint       string        // what to do, in words that give away no policy
	Chain      Chain         // what led to the act
	Cause      error         // may be nil

	// Rule and Remedy are for the host alone: what beside the policy refuses the
	// act, such as a store's own list, and the smallest change that would allow it.
	Rule, Remedy string
}
