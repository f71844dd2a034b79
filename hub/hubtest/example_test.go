package hubtest_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/hub/hubtest"
	"github.com/plugbus/plugbus/store"
	"github.com/stretchr/testify/require"
)

type Order struct {
	ID    string
	Cents int
}

type Invoice struct {
	Order string
	Cents int
}

// Invoices is a plugin to be tested: it answers each order with an invoice.
type Invoices struct{}

func (*Invoices) Manifest() hub.Manifest { return hub.Manifest{ID: "invoices"} }

func (*Invoices) Start(_ context.Context, hub *hub.Session) error {
	_, err := events.Subscribe(hub, "orders.*", func(ctx context.Context, o Order, _ events.Event) error {
		_, err := hub.Emit(ctx, "invoices.created", Invoice{Order: o.ID, Cents: o.Cents})
		return err
	})
	return err
}

// The test of the package's doc. A plugin answers an order, and the shop cannot
// pass off an invoice of its own.
func TestInvoices(t *testing.T) {
	h := hubtest.New(t, hubtest.Policy(t, shopPolicy))
	h.Add(&Invoices{})
	shop, mailer := h.Join("shop"), h.Join("mailer")
	sent := hubtest.Record(t, mailer, "invoices.*")

	_, err := shop.Emit(t.Context(), "orders.placed", Order{ID: "17", Cents: 4200})
	hubtest.RequireAllowed(t, err)
	h.Settle()
	require.Equal(t, []any{Invoice{Order: "17", Cents: 4200}}, sent.Data())

	_, err = shop.Emit(t.Context(), "invoices.created", Invoice{Cents: 1})
	hubtest.RequireDenied(t, err, plugbus.ReasonInsufficientPermissions)
}

// A matrix shows who may do what. In a test, Golden compares it with a file.
func ExampleMatrix() {
	var t testing.TB = &printer{} // A test has its own.

	policy := hubtest.Policy(t, `{ "version": 1, "plugins": {
		"shop":   { "emit":      { "allow": ["orders.**"], "deny": ["orders.internal.*"] } },
		"mailer": { "subscribe": { "allow": ["orders.placed"] } } } }`)
	fmt.Print(hubtest.NewMatrix(policy).
		Add(plugbus.VerbEmit, "orders.placed", "orders.internal.fraud").
		Add(plugbus.VerbSubscribe, "orders.placed", "orders.*"))
	// Output:
	// verb       object                 mailer                    shop
	// emit       orders.placed          insufficient_permissions  yes
	// emit       orders.internal.fraud  insufficient_permissions  denied_by_rule
	// subscribe  orders.placed          yes                       insufficient_permissions
	// subscribe  orders.*               pattern_too_wide          insufficient_permissions
}

// A decision that is not as it should be fails the test, and says by which rule.
func ExampleRequireDecision() {
	var t testing.TB = &printer{} // It prints the failure. A test has its own.

	policy := hubtest.Policy(t, `{ "version": 1, "plugins": {
		"shop": { "emit": { "allow": ["orders.**"] } } } }`)
	hubtest.RequireDecision(t, policy, "shop", plugbus.VerbEmit, "orders.internal.fraud", plugbus.ReasonDeniedByRule)
	// Output:
	// got  allowed
	// want denied: denied_by_rule
	// "shop" may emit "orders.internal.fraud"
	//   name       yes
	//   plugin     yes
	//   allow      yes  "orders.**" in plugins.shop.emit.allow[0] (policy:2:33)
	//   rate       yes  events: 6000 per 1m0s, burst 1000
}

// A watch for a test keeps what a plugin is told of a store. In a test of a plugin, the
// view is that of a session.
func ExampleWatch() {
	var t testing.TB = &printer{} // A test has its own.
	ctx := context.Background()

	db, _ := store.Open(store.Options{})
	counter, _ := db.Client("counter", store.ClientOptions{})
	words, _ := counter.Create(ctx, "words", store.Config{})
	_, _ = words.Set(ctx, "plug", []byte("7"))
	changes := hubtest.Watch(t, words, "*", store.Snapshot())
	_, _ = words.Set(ctx, "bus", []byte("1"))
	_ = words.Delete(ctx, "plug")
	changes.Wait(4)
	_ = db.Close(ctx)

	for _, text := range changes.Texts() {
		fmt.Println(text)
	}
	// Output:
	// current plug 7
	// synced
	// set bus 1
	// deleted plug
}

// A printer is a test that prints its failure.
type printer struct{ testing.TB }

func (*printer) Helper()                           {}
func (*printer) Fatalf(format string, args ...any) { fmt.Printf(format+"\n", args...) }
