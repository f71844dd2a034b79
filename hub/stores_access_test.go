package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/audit"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/hub/hubtest"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
)

const everything = `{"read": true, "write": true, "create": true}`

// TestExplainAgreesOfStores compares, for random policies and lists, what Explain says of
// reading, writing and creating stores with what happens when a plugin does it by a view
// that it has had before, and that both must allow it (D8). What the matrix of hubtest
// says is the policy's half of it.
func TestExplainAgreesOfStores(t *testing.T) {
	drawAccess := func(r *rapid.T) map[string]any {
		access := map[string]any{}
		for _, pattern := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"words", "words.*", "**", "other", "word*"[:4]}), 0, 3, rapid.ID[string]).Draw(r, "patterns") {
			rules := map[string]bool{}
			for _, rule := range []string{"read", "write", "create", "requiresTrust"} {
				if rapid.Bool().Draw(r, pattern+" "+rule) {
					rules[rule] = true
				}
			}
			access[pattern] = rules
		}
		return access
	}
	lists := [][]string{nil, {"a"}, {"b"}, {store.Everyone}, {"a", "b"}}
	rapid.Check(t, func(r *rapid.T) {
		trust := rapid.SampledFrom([]string{"untrusted", "basic", "trusted", "verified"}).Draw(r, "trust")
		text, err := json.Marshal(map[string]any{"version": 1, "plugins": map[string]any{"a": map[string]any{"trust": trust, "dataAccess": drawAccess(r)}}})
		require.NoError(r, err)
		policy, err := security.Parse(text, "")
		require.NoError(r, err)
		h, err := hub.New(hub.Options{Policy: security.AllowAll()})
		require.NoError(r, err)
		defer func() { _, _ = h.Close(t.Context()) }()
		a := join(t, h, "a")
		c := store.Config{}
		for what, list := range map[string]*[]string{"admin": &c.Admin, "read": &c.Read, "write": &c.Write} {
			*list = rapid.SampledFrom(lists).Draw(r, what)
		}
		owner := rapid.SampledFrom([]*hub.Session{h.Host(), a}).Draw(r, "owner")
		name := rapid.SampledFrom([]string{"words", "words.more", "other", "w"}).Draw(r, "name")
		words := create(t, owner, name, c)
		require.NoError(t, words.Grant(t.Context(), store.Read, "a"))
		v := view(t, a, name)
		if (len(c.Read) == 0 || c.Read[0] == "b" || c.Read[0] == store.Everyone) && owner != a {
			require.NoError(t, words.Revoke(t.Context(), store.Read, "a"))
		}
		swap(t, h, policy)

		gone := rapid.Bool().Draw(r, "gone")
		if gone {
			require.NoError(t, view(t, h.Host(), name).Drop(t.Context()))
		}
		agrees := func(verb plugbus.Verb, err error) {
			e := h.Explain("a", verb, name)
			half := policy.Explain("a", verb, name)
			hubtest.RequireDecision(t, policy, "a", verb, name, half.Reason)
			if !half.Allowed {
				require.Equal(r, half.Reason, e.Reason, "the policy's reason comes first")
			}
			if refused, ok := errors.AsType[*plugbus.DeniedError](err); ok {
				require.Equal(r, e.Reason, refused.Reason, "%v of %s in %s", verb, name, text)
				require.NotEmpty(r, e.Rule)
				require.NotEmpty(r, e.Remedy)
				found := entries(t, h, audit.Query{Actor: "a", Outcome: plugbus.Refused})
				if verb != plugbus.VerbCreate {
					require.Equal(r, e.Rule, detail(found[len(found)-1], "rule"), "the record says what Explain does")
					require.Equal(r, e.Remedy, detail(found[len(found)-1], "remedy"))
				}
				return
			}
			require.True(r, e.Allowed, "%v of %s in %s: %v", verb, name, text, err)
			require.Empty(r, e.Reason)
		}
		if gone {
			v, err := a.OpenStore(t.Context(), name)
			if errors.Is(err, store.ErrNotFound) {
				require.True(r, h.Explain("a", plugbus.VerbCreate, name).Allowed)
			} else {
				require.Nil(r, v)
				agrees(plugbus.VerbRead, err)
			}
			return
		}
		_, err = v.Set(t.Context(), "key", []byte("1"))
		agrees(plugbus.VerbWrite, err)
		_, err = v.Get(t.Context(), "other")
		agrees(plugbus.VerbRead, err)
		_, err = a.CreateStore(t.Context(), name, store.Config{})
		agrees(plugbus.VerbCreate, err)

		infos, err := a.Stores(t.Context())
		require.NoError(r, err)
		rights := store.Rights(0)
		if h.Explain("a", plugbus.VerbRead, name).Allowed {
			rights |= store.Read
		}
		if h.Explain("a", plugbus.VerbWrite, name).Allowed {
			rights |= store.Write
		}
		require.Equal(r, rights != 0, len(infos) == 1)
		if rights != 0 {
			require.Equal(r, rights, infos[0].Rights&^store.Admin)
		}
		_, err = a.OpenStore(t.Context(), name)
		require.Equal(r, rights != 0, err == nil, "%v", err)
	})
}

// TestExplainStore shows what the host is told of a store: the lists are a layer of their
// own, and where both refuse, both are in the rule and in the remedy (D8).
func TestExplainStore(t *testing.T) {
	h := open(t, hub.Options{Policy: policyOf(t, `"owner": {"dataAccess": {"**": `+everything+`}}, "p": {"dataAccess": {"words": {"read": true}}}`)})
	create(t, join(t, h, "owner"), "words", store.Config{Write: []string{"p"}})
	const noRead, grantRead = `the lists of store "words" give "p" no right to read: owner owner, p write`, "let an admin of the store grant it read"
	for _, test := range []struct {
		id           string
		verb         plugbus.Verb
		name         string
		allowed      bool
		rule, remedy string
	}{
		{"p", plugbus.VerbRead, "words", false, noRead, grantRead},
		{"p", plugbus.VerbWrite, "words", false, "plugins.p.dataAccess", `plugins.p.dataAccess`},
		{"owner", plugbus.VerbWrite, "words", true, "plugins.owner.dataAccess", ""},
		{"owner", plugbus.VerbCreate, "words", true, "plugins.owner.dataAccess", ""},
		{"owner", plugbus.VerbRead, "none", false, `there is no store "none"`, "create it"},
		{"p", plugbus.VerbRead, "none", false, `; and there is no store "none"`, "; and create it"},
		{"host", plugbus.VerbWrite, "words", true, "", ""},
	} {
		e := h.Explain(test.id, test.verb, test.name)
		require.Equal(t, test.allowed, e.Allowed, "%+v", test)
		require.Contains(t, e.Rule, test.rule)
		require.Contains(t, e.Remedy, test.remedy)
	}
	text := h.Explain("p", plugbus.VerbRead, "words").String()
	require.Contains(t, text, "lists      no   "+noRead)
	require.Contains(t, text, "to allow it: "+grantRead)
}

// TestD9Silence shows that to a plugin that may not create a store, one that is not there
// and one that it may not use are the same in every field of every answer, and cost it
// the same; and that the host's record tells them apart.
func TestD9Silence(t *testing.T) {
	for _, access := range []string{
		`{}`, `{"**": {"read": true}}`, `{"**": {"write": true}}`, `{"**": {"read": true, "write": true}}`,
		`{"**": {"read": true, "write": true, "requiresTrust": true}}`,
	} {
		for _, explain := range []bool{false, true} {
			var seen []plugbus.DeniedError
			var usage []security.Usage
			var rules []string
			for _, name := range []string{"real", "fake"} {
				synctest.Test(t, func(t *testing.T) {
					h := open(t, hub.Options{ExplainToPlugins: explain, Policy: policyOf(t, `
						"owner": {"dataAccess": {"**": `+everything+`}}, "spy": {"dataAccess": `+access+`}`)})
					create(t, join(t, h, "owner"), "real", store.Config{Read: []string{"other"}})
					spy := join(t, h, "spy")
					_, err := spy.OpenStore(t.Context(), name)
					refused, ok := errors.AsType[*plugbus.DeniedError](err)
					require.True(t, ok)
					require.NotErrorIs(t, err, store.ErrNotFound)
					said := *refused
					said.Object = strings.ReplaceAll(said.Object, name, "X")
					said.Explanation = strings.ReplaceAll(said.Explanation, name, "X")
					seen = append(seen, said)
					used, _ := h.Security().Usage("spy")
					usage = append(usage, used)
					found := entries(t, h, audit.Query{Actor: "spy", Target: name})
					require.Len(t, found, 1)
					rules = append(rules, strings.ReplaceAll(detail(found[0], "rule"), name, "X"))
					all, err := spy.Stores(t.Context())
					require.NoError(t, err)
					require.Empty(t, all)
				})
			}
			require.Equal(t, explain, seen[0] != seen[1])
			require.Equal(t, usage[0], usage[1])
			require.NotEqual(t, rules[0], rules[1])
		}
	}
}

// TestSilenceOfOwners shows that a list of stores names the owners of which the plugin may
// know, and no others.
func TestSilenceOfOwners(t *testing.T) {
	h := open(t, hub.Options{Policy: policyOf(t, `
		"friend": {"dataAccess": {"**": `+everything+`}}, "stranger": {"dataAccess": {"**": `+everything+`}},
		"spy": {"send": {"allow": ["friend"]}, "dataAccess": {"**": `+everything+`}}`)})
	spy := join(t, h, "spy")
	for _, id := range []string{"friend", "stranger"} {
		create(t, join(t, h, id), "of."+id, store.Config{Read: []string{"spy"}})
	}
	create(t, spy, "own", store.Config{})
	all, err := spy.Stores(t.Context())
	require.NoError(t, err)
	owners := map[string]string{}
	for _, s := range all {
		owners[s.Name] = s.Owner
	}
	require.Equal(t, map[string]string{"of.friend": "friend", "of.stranger": "", "own": "spy"}, owners)
}

// TestS5RelayOfStores shows that an untrusted plugin cannot reach a store that requires
// trust through a trusted one, in whatever way it led to the act: the trust of a chain
// is that of its least trusted plugin. The trusted one, by itself, may.
func TestS5RelayOfStores(t *testing.T) {
	const policy = `
		"low": {"emit": true, "publish": true, "dataAccess": {"open": ` + everything + `}},
		"relay": {"trust": "trusted", "subscribe": true, "consume": true, "dataAccess": {
			"open": {"read": true}, "vault": {"read": true, "write": true, "create": true, "requiresTrust": true}}}`
	acts := map[string]func(ctx context.Context, relay *hub.Session, vault *store.View) error{
		"another context": func(_ context.Context, _ *hub.Session, vault *store.View) error {
			_, err := vault.Set(context.Background(), "a", nil) //nolint:contextcheck // That is the test.
			return err
		},
		"CreateStore": func(ctx context.Context, relay *hub.Session, _ *store.View) error {
			_, err := relay.CreateStore(ctx, "vault", store.Config{})
			if errors.Is(err, store.ErrExists) {
				return nil
			}
			return err
		},
	}
	for _, a := range storeActs {
		if a.verb != plugbus.VerbCreate && a.name != "Drop" && a.name != "Update" && a.name != "Create" {
			acts[a.name] = func(ctx context.Context, relay *hub.Session, vault *store.View) error {
				return a.do(ctx, relay, vault, "1")
			}
		}
	}
	leads := map[string]func(ctx context.Context, low *hub.Session, open *store.View) error{
		"Emit": func(ctx context.Context, low *hub.Session, _ *store.View) error {
			_, err := low.Emit(ctx, "relay", 1)
			return err
		},
		"Publish": func(ctx context.Context, low *hub.Session, _ *store.View) error {
			_, err := low.Publish(ctx, "relay", 1)
			return err
		},
		"Set": func(ctx context.Context, _ *hub.Session, open *store.View) error {
			_, err := open.Set(ctx, "a", nil)
			return err
		},
		"Set in a transaction": func(ctx context.Context, _ *hub.Session, open *store.View) error {
			return open.Txn(ctx, func(tx *store.Tx) error { return tx.Set("a", nil) })
		},
		"an expiry": func(ctx context.Context, _ *hub.Session, open *store.View) error {
			_, err := open.Set(ctx, "expires", nil, store.TTL(time.Minute))
			return err
		},
	}
	for how, act := range acts {
		for what, lead := range leads {
			synctest.Test(t, func(t *testing.T) {
				t.Logf("%s leads to %s", what, how)
				h := open(t, hub.Options{Policy: policyOf(t, policy)})
				low, relay := join(t, h, "low"), join(t, h, "relay")
				shared := create(t, low, "open", store.Config{Read: []string{"relay"}})
				vault := create(t, relay, "vault", store.Config{Read: []string{"reader"}})
				set(t, vault, "old", `"1"`)
				var result error
				tried := 0
				on := func(ctx context.Context) { tried++; result = act(ctx, relay, vault) }
				_, err := relay.Subscribe("relay", func(ctx context.Context, _ events.Event) error { on(ctx); return nil })
				require.NoError(t, err)
				_, err = relay.HandleTopic("relay", func(ctx context.Context, _ router.Message) error { on(ctx); return nil })
				require.NoError(t, err)
				_, err = view(t, relay, "open").Watch(t.Context(), "**", func(ctx context.Context, c store.Change) error {
					if c.Kind() == store.Expired || what != "an expiry" {
						on(ctx)
					}
					return nil
				})
				require.NoError(t, err)
				before := h.Inspect().Stores.Stores[1]
				require.NoError(t, lead(t.Context(), low, shared))
				<-time.After(2 * time.Minute)
				idle(t, h)
				require.Equal(t, 1, tried)
				refused := refusalOf(t, result, plugbus.ReasonInsufficientTrustLevel)
				require.Equal(t, [2]string{"relay", "vault"}, [2]string{refused.Plugin, refused.Object})
				require.Equal(t, "low", refused.Chain.Plugins()[0])
				found := entries(t, h, audit.Query{Actor: "relay", Target: "vault", Outcome: plugbus.Refused})
				require.Len(t, found, 1)
				require.Contains(t, detail(found[0], "chain"), "low")
				require.Equal(t, before, h.Inspect().Stores.Stores[1])
				require.NoError(t, act(t.Context(), relay, vault), "by itself")
			})
		}
	}
}

// TestCascadeAcrossParts shows that plugins that lead each other in a circle of events,
// writes, watches and expiries are stopped where the chain is too deep (E8, D17), with
// the chain on record.
func TestCascadeAcrossParts(t *testing.T) {
	for _, ttl := range []time.Duration{0, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			h := open(t, hub.Options{FailureBudget: -1})
			a, b := join(t, h, "a"), join(t, h, "b")
			words := create(t, a, "words", store.Config{Read: []string{"b"}, TTL: ttl})
			rounds := 0
			var setting, emitting error
			_, err := a.Subscribe("tick", func(ctx context.Context, _ events.Event) error {
				rounds++
				_, setting = words.Set(ctx, "n", nil)
				return nil
			})
			require.NoError(t, err)
			_, err = view(t, b, "words").Watch(t.Context(), "n", func(ctx context.Context, c store.Change) error {
				if ttl == 0 || c.Kind() == store.Expired {
					_, emitting = b.Emit(ctx, "tick", 1)
				}
				return nil
			})
			require.NoError(t, err)
			emit(t, a, "tick", 1)
			<-time.After(time.Hour)
			idle(t, h)
			refused := refusalOf(t, errors.Join(setting, emitting), plugbus.ReasonChainTooDeep)
			require.Equal(t, []string{"a", "a", "b", "a", "b"}, refused.Chain.Plugins()[:5])
			require.Equal(t, 32, refused.Chain.Depth())
			require.Equal(t, 16, rounds)
			require.NotEmpty(t, entries(t, h, audit.Query{Event: "*.refused"}))
		})
	}
}

// TestWatchersInACircle shows that a watcher that writes the key that it watches is
// stopped, and its store and plugin are well afterwards (D17).
func TestWatchersInACircle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, hub.Options{Store: store.Options{MaxDepth: 5}})
		a := join(t, h, "a")
		words := create(t, a, "words", store.Config{})
		var result error
		_, err := words.Watch(t.Context(), "n", func(ctx context.Context, _ store.Change) error {
			_, result = words.Set(ctx, "n", nil)
			return nil
		})
		require.NoError(t, err)
		e := set(t, words, "n", "")
		idle(t, h)
		denied(t, result, plugbus.ReasonChainTooDeep)
		require.EqualValues(t, 5, e.Revision()+h.Inspect().Stores.Stores[0].Revision-1)
		set(t, words, "other", "1")
	})
}

// TestD4SwapWhileWatching shows that a policy that takes the right to read away ends a
// watch at the next change, of which it shows nothing; that nobody sees what was
// overwritten while he might not read; and that one who still may notices nothing.
func TestD4SwapWhileWatching(t *testing.T) {
	with := func(access string) string {
		return `"owner": {"dataAccess": {"**": ` + everything + `}}, "p": {"dataAccess": ` + access + `}`
	}
	for _, without := range []string{
		with(`{}`), with(`{"words": {"write": true}}`), with(`{"**": {"read": true}, "words": {"read": true, "requiresTrust": true}}`),
		`"owner": {"dataAccess": {"**": ` + everything + `}}`,
	} {
		for _, back := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				h := open(t, hub.Options{Policy: policyOf(t, with(`{"words": {"read": true}}`))})
				words := create(t, join(t, h, "owner"), "words", store.Config{Read: []string{store.Everyone}})
				p := join(t, h, "p")
				release := make(chan struct{})
				box := &storebox{}
				w, err := view(t, p, "words").Watch(t.Context(), "**", func(ctx context.Context, c store.Change) error {
					<-release
					return box.watch(ctx, c)
				})
				require.NoError(t, err)
				set(t, words, "a", "1") // It runs when the policy changes.
				synctest.Wait()
				swap(t, h, policyOf(t, without))
				set(t, words, "a", "secret")
				if back {
					set(t, words, "a", "open")
					swap(t, h, policyOf(t, with(`{"words": {"read": true}, "other": {"read": true}}`)))
					set(t, words, "a", "2")
				}
				close(release)
				idle(t, h)
				if back {
					lost := uint64(0)
					for _, c := range box.changes[1 : len(box.changes)-1] {
						require.Equal(t, store.Lagged, c.Kind())
						lost += c.Lost()
					}
					require.EqualValues(t, 2, lost)
					require.Equal(t, [2]string{"2", "open"}, [2]string{box.last().Entry().Text(), box.last().Old().Text()}, "which it could read by then")
					require.NoError(t, w.Err())
					return
				}
				require.Equal(t, []string{"set a=1", "revoked"}, box.texts())
				require.ErrorIs(t, w.Err(), plugbus.ErrDenied)
				require.Len(t, entries(t, h, audit.Query{Actor: "p", Target: "words", Outcome: plugbus.Refused}), 1)
				swap(t, h, policyOf(t, with(`{"words": {"read": true}}`)))
				set(t, words, "a", "3")
				idle(t, h)
				require.Len(t, box.texts(), 2, "a watch that has ended does not come back")
			})
		}
	}
}

// TestValidatorsRead shows that a validator is asked only while its plugin may read the
// store: what it is shown it reads (D4).
func TestValidatorsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const writer = `, "writer": {"dataAccess": {"words": {"read": true, "write": true}}}`
		h := open(t, hub.Options{Policy: policyOf(t, `"owner": {"dataAccess": {"words": `+everything+`}}`+writer)})
		owner := join(t, h, "owner")
		asked := 0
		own := create(t, owner, "words", store.Config{Write: []string{"writer"}, Validator: func(context.Context, *store.Proposal) error { asked++; return nil }})
		words := view(t, join(t, h, "writer"), "words")
		set(t, words, "a", "1")
		swap(t, h, policyOf(t, `"owner": {"dataAccess": {"words": {"write": true}}}`+writer))
		for _, v := range []*store.View{words, own} {
			_, err := v.Set(t.Context(), "a", []byte("secret"))
			require.ErrorIs(t, err, store.ErrNoValidator)
			require.ErrorIs(t, err, store.ErrNotDone)
		}
		require.Equal(t, 1, asked)
		require.Zero(t, must(snapshotOf(h, "owner")).Failures)
	})
}

// TestStoreLimitsOfAPolicy shows that the limits of a grant bound what its plugin owns,
// whoever writes it and under the policy of now, and its watches; and that 0 means none
// (D2, D16).
func TestStoreLimitsOfAPolicy(t *testing.T) {
	policy := func(stores, bytes, watches int) *security.Policy {
		return policyOf(t, fmt.Sprintf(`"p": {"dataAccess": {"**": %[1]s}, "limits": {"stores": %[2]d, "storeBytes": %[3]d, "watches": %[4]d}},
			"other": {"dataAccess": {"**": %[1]s}}`, everything, stores, bytes, watches))
	}
	h := open(t, hub.Options{Policy: policy(2, 4, 1)})
	p, other := join(t, h, "p"), join(t, h, "other")
	full := func(err error, quota string) {
		t.Helper()
		denied(t, err, plugbus.ReasonQuotaExceeded)
		over, ok := errors.AsType[*store.QuotaError](err)
		require.True(t, ok)
		require.Contains(t, over.Quota, quota)
	}
	one := create(t, p, "one", store.Config{Write: []string{"other"}})
	two := create(t, p, "two", store.Config{})
	_, err := p.CreateStore(t.Context(), "three", store.Config{})
	full(err, "stores")
	create(t, other, "three", store.Config{})

	set(t, one, "a", "1")
	set(t, view(t, other, "one"), "b", "1")
	for _, v := range []*store.View{one, two, view(t, other, "one")} {
		_, err = v.Set(t.Context(), "c", nil)
		full(err, "bytes")
	}
	found := entries(t, h, audit.Query{Actor: "other", Outcome: plugbus.Refused})
	require.Len(t, found, 1, "it is the writer's act")
	set(t, one, "a", "2")
	require.NoError(t, one.Delete(t.Context(), "a"))
	set(t, two, "c", "1")
	require.NoError(t, h.Unregister(t.Context(), "p"))
	_, err = view(t, other, "one").Set(t.Context(), "c", nil)
	full(err, "bytes")
	swap(t, h, policy(1, 5, 2))
	set(t, view(t, other, "one"), "c", "")

	p = join(t, h, "p")
	_, err = p.CreateStore(t.Context(), "four", store.Config{})
	full(err, "stores")
	require.NoError(t, view(t, p, "one").Drop(t.Context()))
	_, err = p.CreateStore(t.Context(), "four", store.Config{})
	full(err, "stores")
	require.NoError(t, view(t, p, "two").Drop(t.Context()))
	four := create(t, p, "four", store.Config{})
	for range 2 {
		follow(t, four, "**")
	}
	_, err = four.Watch(t.Context(), "**", (&storebox{}).watch)
	full(err, "watches")

	h = open(t, hub.Options{Policy: policy(0, 0, 0)})
	p = join(t, h, "p")
	_, err = p.CreateStore(t.Context(), "one", store.Config{})
	full(err, "stores")
	create(t, join(t, h, "other"), "three", store.Config{Read: []string{"p"}})
	_, err = view(t, p, "three").Watch(t.Context(), "**", (&storebox{}).watch)
	full(err, "watches")
	swap(t, h, policy(1, 0, 0))
	_, err = create(t, p, "one", store.Config{}).Set(t.Context(), "a", nil)
	full(err, "bytes")
	swap(t, h, policyOf(t, `"other": {}`))
	_, err = view(t, h.Host(), "one").Set(t.Context(), "a", nil)
	full(err, "bytes")
	set(t, create(t, h.Host(), "own", store.Config{}), "a", "1")
}

// TestAllowAllOfStores shows that without a policy to speak of plugins share stores as
// the lists say, with nothing but the usual limits.
func TestAllowAllOfStores(t *testing.T) {
	h := open(t, hub.Options{})
	a, b := join(t, h, "a"), join(t, h, "b")
	words := create(t, a, "words", store.Config{Read: []string{"b"}})
	set(t, words, "x", "1")
	v := view(t, b, "words")
	require.Equal(t, "1", valueOf(t, v, "x"))
	_, err := v.Set(t.Context(), "x", nil)
	denied(t, err, plugbus.ReasonInsufficientPermissions)
	_, err = b.OpenStore(t.Context(), "none")
	require.ErrorIs(t, err, store.ErrNotFound)
	require.ErrorContains(t, err, "create it first")
	_, err = b.CreateStore(t.Context(), "words", store.Config{})
	require.ErrorIs(t, err, store.ErrExists)
	require.ErrorContains(t, err, "it exists already; open it instead")
	set(t, view(t, h.Host(), "words"), "x", "2")
	_, err = a.CreateStore(t.Context(), "store:mine", store.Config{})
	denied(t, err, plugbus.ReasonReservedName)
}

// TestContentOfKeys shows that keys are inspected too, and that what a policy excepts from
// the content checks is written as it is (S20).
func TestContentOfKeys(t *testing.T) {
	policy := func(more string) *security.Policy {
		return policyOf(t, `"p": {"dataAccess": {"**": `+everything+`}`+more+`}`)
	}
	h := open(t, hub.Options{Policy: policy("")})
	words := create(t, join(t, h, "p"), "words", store.Config{})
	bad := []string{"<script src=x>", `{"a":"javascript\u003aalert(1)"}`, `["<img src=x \u006fnerror=a>"]`}
	for _, value := range bad {
		_, err := words.Set(t.Context(), "a", []byte(value))
		denied(t, err, plugbus.ReasonInvalidContent)
	}
	_, err := words.Set(t.Context(), bad[0], nil)
	denied(t, err, plugbus.ReasonInvalidContent)
	for _, value := range []string{"month=3", `{"a": "\u0061"}`, `no JSON \u003cscript>`, "\xff\xfe"} {
		set(t, words, "a", value)
	}
	swap(t, h, policy(`, "content": {"except": ["words"]}`))
	for _, value := range bad {
		set(t, words, "a", value)
	}
}
