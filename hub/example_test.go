package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/discovery"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/security"
	"github.com/plugbus/plugbus/store"
)

// Counter counts words for whoever asks.
type Counter struct{ version string }

func (c *Counter) Manifest() hub.Manifest { return hub.Manifest{ID: "counter", Version: c.version} }

func (c *Counter) Start(_ context.Context, hub *hub.Session) error {
	_, err := router.Handle(hub, "count", func(ctx context.Context, text string) (int, error) {
		n := len(strings.Fields(text))
		_, err := hub.Emit(ctx, "words.counted", n)
		return n, err
	})
	return err
}

func Example() {
	ctx := context.Background()
	policy, err := security.Parse([]byte(`{"version": 1, "plugins": {
		"counter": {"trust": "basic", "receive": true, "emit": {"allow": ["words.*"]}},
		"reader":  {"trust": "basic", "send": {"allow": ["counter"]}, "subscribe": {"allow": ["words.*"]}}
	}}`), "policy.json")
	if err != nil {
		panic(err)
	}
	h, err := hub.New(hub.Options{Policy: policy})
	if err != nil {
		panic(err)
	}
	reader := hub.Func(hub.Manifest{ID: "reader"}, func(ctx context.Context, hub *hub.Session) error {
		_, err := events.Subscribe(hub, "words.*", func(_ context.Context, n int, e events.Event) error {
			fmt.Println(e.Source(), "counted", n)
			return nil
		})
		if err != nil {
			return err
		}
		n, err := router.Send[int](ctx, hub, "counter", "count", "to be or not to be")
		fmt.Println("reply:", n)
		return err
	})
	if err := h.Register(ctx, &Counter{}, reader); err != nil {
		panic(err)
	}
	report, err := h.Close(ctx)
	fmt.Println("clean:", report.Clean(), err)
	// Output:
	// reply: 6
	// counter counted 6
	// clean: true <nil>
}

// A plugin provides a capability, and another one calls whoever does it best.
func ExampleSession_Call() {
	ctx := context.Background()
	h, err := hub.New(hub.Options{Policy: security.AllowAll()})
	if err != nil {
		panic(err)
	}
	defer h.Close(ctx) //nolint:errcheck // An example.
	printer := func(id string, cost float64) hub.Plugin {
		return hub.Func(hub.Manifest{ID: id}, func(_ context.Context, hub *hub.Session) error {
			c := discovery.Capability{Name: "print", Cost: &cost, Input: json.RawMessage(`{"type": "string"}`)}
			return hub.Provide(c, func(_ context.Context, m router.Message) (any, error) {
				return fmt.Sprintf("%s by %s", m.Data(), hub.ID()), nil
			})
		})
	}
	if err := h.Register(ctx, printer("laser", 9), printer("matrix", 1)); err != nil {
		panic(err)
	}
	limit := 5.0
	fmt.Println(discovery.Call[string](ctx, h.Host(), "print", "a letter"))
	fmt.Println(discovery.Call[string](ctx, h.Host(), "print", "a draft", discovery.Require(discovery.Terms{MaxCost: &limit})))
	_, err = discovery.Call[string](ctx, h.Host(), "print", 42)
	fmt.Println(err)
	// Output:
	// a letter by laser <nil>
	// a draft by matrix <nil>
	// plugin "laser": invalid: the request does not fit the capability: got number, want string
}

// Plugins share a store: one owns and writes it, the other follows it. With a StoreDir in
// the options of the hub and Persistent in the config, it would be on disk.
func ExampleSession_CreateStore() {
	ctx := context.Background()
	policy, err := security.Parse([]byte(`{"version": 1, "plugins": {
		"counter": {"dataAccess": {"words": {"read": true, "write": true, "create": true}}},
		"reader":  {"dataAccess": {"words": {"read": true}}}
	}}`), "policy.json")
	if err != nil {
		panic(err)
	}
	h, err := hub.New(hub.Options{Policy: policy})
	if err != nil {
		panic(err)
	}
	counter := hub.Func(hub.Manifest{ID: "counter"}, func(ctx context.Context, hub *hub.Session) error {
		words, err := hub.CreateStore(ctx, "words", store.Config{Read: []string{"reader"}})
		if err != nil {
			return err
		}
		_, err = store.Typed[int](words).Set(ctx, "plug", 7)
		return err
	})
	reader := hub.Func(hub.Manifest{ID: "reader"}, func(ctx context.Context, hub *hub.Session) error {
		words, err := hub.OpenStore(ctx, "words")
		if err != nil {
			return err
		}
		_, err = words.Set(ctx, "plug", []byte("8"))
		fmt.Println("refused:", errors.Is(err, plugbus.ErrDenied))
		_, err = words.Watch(ctx, "**", func(_ context.Context, c store.Change) error {
			fmt.Println(c)
			return nil
		}, store.Snapshot())
		return err
	})
	if err := h.Register(ctx, counter, reader); err != nil {
		panic(err)
	}
	if err := h.Idle(ctx); err != nil {
		panic(err)
	}
	_, err = h.Close(ctx)
	fmt.Println("closed:", err)
	// Output:
	// refused: true
	// current "plug" of store "words" at 1
	// synced of store "words" at 1
	// closed: <nil>
}

// A new version takes the place of a plugin. One that does not start leaves the old one
// serving.
func ExampleHub_Replace() {
	ctx := context.Background()
	h, err := hub.New(hub.Options{Policy: security.AllowAll()})
	if err != nil {
		panic(err)
	}
	defer h.Close(ctx) //nolint:errcheck // An example.
	if err := h.Register(ctx, &Counter{version: "1.0.0"}); err != nil {
		panic(err)
	}
	if err := h.Replace(ctx, &Counter{version: "1.1.0"}); err != nil {
		panic(err)
	}
	broken := hub.Func(hub.Manifest{ID: "counter", Version: "1.2.0"}, func(context.Context, *hub.Session) error {
		return errors.New("no dictionary")
	})
	fmt.Println(h.Replace(ctx, broken))
	snapshot := h.Inspect()
	counter, _ := snapshot.Plugin("counter")
	fmt.Println(counter.Version, counter.State)
	fmt.Println(router.Send[int](ctx, h.Host(), "counter", "count", "to be"))
	// Output:
	// replace plugin "counter": start: no dictionary
	// 1.1.0 ready
	// 2 <nil>
}
