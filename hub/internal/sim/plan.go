package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/store"
)

// The ids that every world has.
const (
	host      = "host"
	witness   = "witness"   // gets every event, and does nothing else
	bystander = "bystander" // answers, and is to be delayed by nobody
	caller    = "caller"    // asks the bystander; it serves nothing, from which it would take a chain
)

// A Profile says how a world is.
type Profile string

// The profiles.
const (
	Calm  Profile = "calm"  // handlers do well, and what is accepted is handled
	Rough Profile = "rough" // some handlers fail, sleep, or act
	Wild  Profile = "wild"  // some also panic, hang, end their goroutine, or their plugin
)

// A Plan is all that follows from a seed.
type Plan struct {
	Seed    uint64
	Profile Profile
	Plugins []string
	Options hub.Options // but for the policy

	rules     []*rules
	acts      []act
	closeAt   time.Duration // since the begin
	closeTime time.Duration // of the context of Close; 0 for one that is done
	closers   int           // how many close the hub at once
	observed  bool          // there is an observer
	retries   bool          // messages may be tried again
}

// An act is what one plugin, or the host, does at a time.
type act struct {
	at   time.Duration
	do   *deed
	n    uint64 // its number
	dice *rand.Rand
}

// limits bound the waits of a world, so that it is over soon.
const (
	waitLimit     = 2 * time.Second
	requestLimit  = 3 * time.Second
	validateLimit = time.Second
	idleLimit     = time.Second
)

// NewPlan draws a world.
func NewPlan(seed uint64) (*Plan, error) {
	r := rand.New(rand.NewPCG(seed, 0x5eed)) //nolint:gosec // It is to be repeated.
	p := &Plan{Seed: seed, Profile: pick(r, Calm, Rough, Rough, Wild, Wild), closers: 1 + r.IntN(3), observed: chance(r, 300), retries: chance(r, 250)}
	for i := range 2 + r.IntN(6) {
		p.Plugins = append(p.Plugins, fmt.Sprintf("p%d", i))
	}
	p.Options = hub.Options{
		Events: events.Options{
			HistoryEvents: pick(r, 20, 200, 10_000), HistoryAge: pick(r, time.Second, time.Hour), Buffer: pick(r, 4, 32, 1024), MaxDepth: 8,
			WaitLimit: waitLimit, HandlerTimeout: pick(r, 0, time.Second), SlowAfter: 500 * time.Millisecond,
		},
		Router: router.Options{
			MailboxMessages: pick(r, 8, 64, 1024), RequestTimeout: requestLimit, StreamIdle: idleLimit, WaitLimit: waitLimit, MaxDepth: 8,
			DeadLetters: pick(r, 5, 100), SlowAfter: 500 * time.Millisecond,
		},
		Audit:         audit.Options{Capacity: pick(r, 0, 50), AdminCapacity: pick(r, 0, 20)},
		Store:         store.Options{MaxDepth: 8, ValidateLimit: validateLimit, SlowAfter: 500 * time.Millisecond},
		FailureBudget: pick(r, -1, 2, 5, 50),
		ProbeAfter:    pick(r, -1, 0, 300*time.Millisecond, 300*time.Millisecond),
		WaitLimit:     waitLimit,
	}
	for i := range 2 + r.IntN(4) {
		drawn, err := newRules(r, p.Plugins, i == 0)
		if err != nil {
			return nil, err
		}
		p.rules = append(p.rules, drawn)
	}
	span := time.Duration(2+r.IntN(20)) * time.Second
	p.draw(r, span)
	p.closeAt = span
	if chance(r, 200) { // In the midst of it.
		p.closeAt = time.Duration(r.Int64N(int64(span)))
	}
	p.closeTime = pick(r, 0, 100*time.Millisecond, 3*time.Second, time.Minute)
	return p, nil
}

// draw draws the acts.
func (p *Plan) draw(r *rand.Rand, span time.Duration) {
	weights := 0
	for i := range deeds {
		weights += deeds[i].weight
	}
	crowded := chance(r, 300) // All at a few times, and so at once.
	for i := range 40 + r.IntN(160) {
		a := act{at: time.Duration(r.Int64N(int64(span))), n: uint64(i+1) << 32} //nolint:gosec // It is small.
		if crowded {
			a.at = a.at.Truncate(span / 10)
		}
		a.do = &deeds[slices.IndexFunc(deeds, func(d deed) bool { return d.name == "join" })]
		if i >= len(p.Plugins) {
			at := r.IntN(weights)
			for j := range deeds {
				if at -= deeds[j].weight; at < 0 {
					a.do = &deeds[j]
					break
				}
			}
		} else {
			a.at = 0 // First some come.
		}
		a.dice = dice(p.Seed, a.n, "act")
		p.acts = append(p.acts, a)
	}
	slices.SortStableFunc(p.acts, func(a, b act) int { return int(a.at - b.at) })
}

// Acts returns how many acts the plan has.
func (p *Plan) Acts() int { return len(p.acts) }
