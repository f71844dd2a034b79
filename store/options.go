package store

import (
	"context"
	"log/slog"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/actor"
	"github.com/plugbus/plugbus/internal/clock"
	"github.com/plugbus/plugbus/internal/limits"
)

// Options configure a [DB]. The zero value is ready to use, and keeps all stores in
// memory.
type Options struct { //nolint:recvcheck // Users have values; only check fills them in.
	// Backend keeps the persistent stores. If nil, there can be none.
	Backend Backend

	// MaxStores bounds the stores of all plugins together, 1 to 1 million. If zero,
	// it is 10,000.
	MaxStores int

	// MaxBytes bounds the keys and values of all stores together, 1 to 2^46. If
	// zero, it is 1 GiB.
	MaxBytes int64

	// OwnerQuota says how many stores a plugin may own, and how many bytes of keys and
	// values these may hold together. It is asked by every write that needs more, also
	// while the owner is away, and must not block. If nil, it is 16 stores and 64 MiB.
	OwnerQuota func(owner string) (stores int, bytes int64)

	// MaxDepth bounds how many plugins a chain may have that leads to an act, 1 to
	// 1,000. If zero, it is 32.
	MaxDepth int

	// ValidateLimit is how long a validator may take, and how long a write waits until
	// it is its turn; 1 ms to 1 h. If zero, it is 5 seconds.
	ValidateLimit time.Duration

	// SlowAfter is how long the call of a watcher or validator runs before OnSlow
	// hears of it, at the next look, of which there is one in that time; 1 ms to 1 h.
	// If zero, it is 10 seconds.
	SlowAfter time.Duration

	// OnFailure is told of each call of a watcher or validator that failed, on the
	// plugin's worker, or when its time is over. It must not block. If nil, failures
	// are only counted.
	OnFailure func(Failure)

	// OnSlow is told of calls that run long, once for each, and must not block. If
	// nil, nobody is.
	OnSlow func(Slow)

	// OnChange is told when a store was made or dropped, or its lists changed, after
	// it took effect and before the call returns, also of what takes effect after its
	// caller has left. It must not block, nor change stores itself.
	OnChange func(Administration)

	// Observe hears of every act at the door, of what came of every write, and of every
	// call of a watcher. It must not block, panic, or call the DB. If nil, nothing is
	// spent on it.
	Observe func(plugbus.Observation)

	// Logger gets what the host should know: that a commit failed. If nil, nothing
	// is logged.
	Logger *slog.Logger

	// Actors own the workers of plugins that have none. If nil, the DB has its own.
	Actors *actor.Group

	// Clock is the hub's. If nil, the DB has its own.
	Clock *clock.Clock
}

// Check reports every mistake in the options, as [Open] does: for whoever wants to know
// before a backend is opened.
func (o Options) Check() error { return o.check() }

// check fills in the defaults, and reports every mistake.
func (o *Options) check() error {
	wrong := limits.List{Fault: newOptionError}
	o.MaxStores = limits.Within(&wrong, "MaxStores", o.MaxStores, 10_000, 1, 1_000_000)
	o.MaxBytes = limits.Within(&wrong, "MaxBytes", o.MaxBytes, 1<<30, 1, 1<<46)
	o.MaxDepth = limits.Within(&wrong, "MaxDepth", o.MaxDepth, 32, 1, 1000)
	o.ValidateLimit = limits.Within(&wrong, "ValidateLimit", o.ValidateLimit, 5*time.Second, time.Millisecond, time.Hour)
	o.SlowAfter = limits.Within(&wrong, "SlowAfter", o.SlowAfter, 10*time.Second, time.Millisecond, time.Hour)
	if o.OwnerQuota == nil {
		o.OwnerQuota = func(string) (int, int64) { return 16, 64 << 20 }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = clock.New()
	}
	return wrong.Err()
}

// An OptionError reports an option, or a field of a [Config], that cannot be had. It
// matches [plugbus.ErrInvalid].
type OptionError struct {
	Option string
	Got    any
	Want   string
}

func newOptionError(option string, got any, want string) error {
	return &OptionError{option, got, want}
}

// ClientOptions configure a [Client]. The zero value allows everything.
type ClientOptions struct {
	// Guard decides what the client may do. If nil, it may do everything that the
	// lists of the stores allow.
	Guard plugbus.Guard

	// Superuser passes the lists of all stores, as the host does.
	Superuser bool

	// Context ends the contexts of watchers and validators when it is done, beside
	// the client's own end. If nil, only the client's end does.
	Context context.Context //nolint:containedctx // The parent of the contexts of calls.

	// MaxWatches bounds the client's watches. If zero, it is 100; if negative, it can
	// have none.
	MaxWatches int

	// Actor is the plugin's worker, which other mechanisms share. If nil, the client
	// has its own.
	Actor *actor.Actor

	// Held makes a client that is to take the place of the one with its id, by
	// [Client.Succeed] and [Client.Settle]. It reads and writes at once; but its watches
	// begin when it succeeds the other, no function of it is called on its worker until
	// it settles, and the validators that it sets are not those of their stores before
	// the other has ended.
	Held bool

	// Owner is what whoever makes the client wants back in each Failure and Slow that
	// is about it: an id may have joined again by then. It may be nil.
	Owner any
}

// A Config says what a new store is like. The zero value is a store in memory for
// its owner alone.
type Config struct {
	// Persistent keeps the store on the backend: a write that returned nil survives
	// the death of the process. Without a backend it is an error.
	Persistent bool

	// Read, Write and Admin are the ids that have these rights beside the owner, who
	// has them all. Admin includes the others. [Everyone] stands for all plugins. At
	// most 3,000 ids together.
	Read, Write, Admin []string

	// Validator is asked before each write, on the owner's worker. While the owner is
	// away nobody can write; when it has joined again it sets the validator by
	// [View.SetValidator]. It may be nil.
	Validator Validator

	// Schema is a JSON Schema that every value satisfies, as JSON. It may be nil.
	Schema []byte

	// TTL is how long entries live that are written without a [TTL] of their own, 1 ms
	// to 100 years; 0 means for ever.
	TTL time.Duration

	// MaxKeys bounds the entries, 1 to 10 million. If zero, it is 100,000. Each more
	// takes 256 bytes from the quota of the owner when the store is made, for what an
	// entry needs beside its key and value.
	MaxKeys int

	// MaxBytes bounds the keys and values, 1 to 2^40. If zero, it is 64 MiB.
	MaxBytes int64

	// MaxValueBytes bounds one value, 1 to 2^28. If zero, it is 1 MiB. What the
	// policy says of payloads holds too.
	MaxValueBytes int

	// History bounds the changes that are kept for watches, in memory, 1 to 1
	// million. If zero, it is 1,024. Each one more than that takes 256 bytes from the
	// quotas of the owner and of all, at once.
	History int

	// HistoryBytes bounds the keys and values in them, 1 to 2^30. If zero, it is 1
	// MiB. What is more than that is taken from the quotas, at once. The last change is
	// always kept.
	HistoryBytes int
}

// Everyone stands for all plugins in the lists of a store. The policy still decides
// for each.
const Everyone = "*"

// check fills in the defaults, and reports every mistake.
func (c *Config) check() error {
	wrong := limits.List{Fault: newOptionError}
	c.TTL = limits.Within(&wrong, "Config.TTL", c.TTL, 0, minTTL, maxTTL)
	c.MaxKeys = limits.Within(&wrong, "Config.MaxKeys", c.MaxKeys, usualKeys, 1, 10_000_000)
	c.MaxBytes = limits.Within(&wrong, "Config.MaxBytes", c.MaxBytes, 64<<20, 1, 1<<40)
	c.MaxValueBytes = limits.Within(&wrong, "Config.MaxValueBytes", c.MaxValueBytes, 1<<20, 1, 1<<28)
	c.History = limits.Within(&wrong, "Config.History", c.History, usualHistory, 1, 1_000_000)
	c.HistoryBytes = limits.Within(&wrong, "Config.HistoryBytes", c.HistoryBytes, usualHistoryBytes, 1, 1<<30)
	return wrong.Err()
}

// The range of lifetimes.
const (
	minTTL = time.Millisecond
	maxTTL = 100 * 365 * 24 * time.Hour
)
