package security_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/internal/chain"
	"github.com/plugbus/plugbus/security"
)

// A history is all policies that were in force, as documents. The number of a version
// less one is its place.
type history struct {
	mu        sync.Mutex // guards below
	documents []security.Document
}

func (h *history) add(doc security.Document) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.documents = append(h.documents, doc)
}

// at returns the document of a version. It is in the history before it is in force.
func (h *history) at(version uint64) security.Document {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.documents[version-1]
}

// An asked is a question that is put again and again.
type asked struct {
	id     string
	verb   plugbus.Verb
	object string
}

func drawQuestions(t *rapid.T) []asked {
	var all []asked
	for range 12 {
		verb := rapid.SampledFrom(plugbus.Verbs()).Draw(t, "verb")
		all = append(all, asked{rapid.SampledFrom(ids).Draw(t, "id"), verb, rapid.SampledFrom(namesFor(verb)).Draw(t, "object")})
	}
	return all
}

// everyone returns a document that has all ids, so that all may join.
func everyone(t *rapid.T) security.Document {
	doc := drawDocument(t)
	for _, id := range ids {
		if _, ok := doc.Plugins[id]; !ok {
			doc.Plugins[id] = security.PluginRules{}
		}
	}
	return doc
}

// TestSwapModel asks many questions while one policy follows on another and trust moves:
// every answer is that of one policy, whole, which was in force at some moment between
// the question and the answer, as the naive decision has it; so are those of Explain, of
// PermitVia without a chain, and of PermitAt for the version that was asked for. After
// Swap or SetTrust returned, none is by an older one (S1, S2, S3, R13).
func TestSwapModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &history{}
		first := everyone(t)
		h.add(first)
		p, err := first.Policy()
		require.NoError(t, err)
		a, err := security.New(security.Options{Policy: p, Keep: 3})
		require.NoError(t, err)
		subjects := map[string]*security.Subject{}
		for _, id := range ids {
			subjects[id], err = a.Join(id)
			require.NoError(t, err)
		}
		type change struct {
			doc    security.Document
			policy *security.Policy
			id     string // whose trust changes, and nothing else
			trust  plugbus.Trust
		}
		var changes []change
		current := first
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			if rapid.IntRange(0, 2).Draw(t, "trust only") == 0 {
				c := change{id: rapid.SampledFrom(ids).Draw(t, "who"), trust: plugbus.Trust(rapid.IntRange(0, 3).Draw(t, "trust")), doc: security.Document{Version: 1, Plugins: map[string]security.PluginRules{}}}
				for id, rules := range current.Plugins {
					if id == c.id {
						rules.Trust = c.trust
					}
					c.doc.Plugins[id] = rules
				}
				changes, current = append(changes, c), c.doc
				continue
			}
			doc := everyone(t)
			p, err := doc.Policy()
			require.NoError(t, err)
			changes, current = append(changes, change{doc: doc, policy: p}), doc
		}
		questions := drawQuestions(t)

		var settled atomic.Uint64 // the version of the last change that returned
		settled.Store(1)
		check := func(q asked, floor, version uint64, reason plugbus.Reason, what string) bool {
			ceiling := a.Version()
			if version < floor || version > ceiling {
				t.Errorf("%s %+v answers by version %d, which was in force neither when it was asked nor later: those were %d to %d", what, q, version, floor, ceiling)
				return false
			}
			if want := naiveDecide(h.at(version), q.id, q.verb, q.object); want != reason {
				t.Errorf("%s %+v answers %q, want %q by version %d", what, q, reason, want, version)
				return false
			}
			return true
		}
		ask := func(q asked) bool {
			s, floor := subjects[q.id], settled.Load()
			permit := s.Permit(q.verb, q.object)
			ok := check(q, floor, permit.Version, permit.Reason, "Permit")
			floor = settled.Load()
			permit = s.PermitVia(chain.Chain{}, q.verb, q.object)
			ok = ok && check(q, floor, permit.Version, permit.Reason, "PermitVia")
			floor = settled.Load()
			e := a.Explain(q.id, q.verb, q.object)
			ok = ok && check(q, floor, e.Version, e.Reason, "Explain")
			asks := a.Version()
			permit = s.PermitAt(asks, q.verb, q.object)
			switch {
			case permit.Version != asks:
				t.Errorf("PermitAt(%d) answers by version %d", asks, permit.Version)
				return false
			case permit.Reason != plugbus.ReasonPolicyUnavailable:
				ok = ok && check(q, asks, permit.Version, permit.Reason, "PermitAt")
			}
			return ok
		}
		done := make(chan struct{})
		var asking sync.WaitGroup
		for g := range 2 {
			asking.Go(func() { // Ends when the changes are made.
				for i := g; ; i++ {
					select {
					case <-done:
						return
					default:
					}
					if !ask(questions[i%len(questions)]) {
						return
					}
				}
			})
		}
		for _, c := range changes {
			h.add(c.doc)
			if c.id == "" {
				_, err = a.Swap("host", c.policy)
			} else {
				err = a.SetTrust("host", c.id, c.trust)
			}
			if err != nil {
				t.Error(err)
				break
			}
			settled.Add(1)
			if a.Version() != settled.Load() {
				t.Errorf("version %d, want %d", a.Version(), settled.Load())
			}
			ask(questions[0])
		}
		close(done)
		asking.Wait()
	})
}

// TestPermitAtOneVersion asks for the rules of a version while that is swapped away: the
// answer is by that version or none, never by the next (E18, S2).
func TestPermitAtOneVersion(t *testing.T) {
	policies := [2]*security.Policy{policy(t, `{"a":{"subscribe":true}}`), policy(t, `{"a":{}}`)}
	a := authority(t, policies[1]) // Version 1; the even ones allow.
	s := join(t, a, "a")
	done := make(chan struct{})
	var swapping sync.WaitGroup
	swapping.Go(func() { // Ends with the questions.
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			if _, err := a.Swap("host", policies[i%2]); err != nil {
				t.Error(err)
			}
		}
	})
	var asking sync.WaitGroup
	for range 2 {
		asking.Go(func() {
			for range 500_000 {
				version := a.Version()
				permit := s.PermitAt(version, plugbus.VerbSubscribe, "x")
				if permit.Version != version || permit.Reason != plugbus.ReasonPolicyUnavailable && permit.Allowed() != (version%2 == 0) {
					t.Errorf("PermitAt(%d) answers %q by version %d", version, permit.Reason, permit.Version)
					return
				}
			}
		})
	}
	asking.Wait()
	close(done)
	swapping.Wait()
}
