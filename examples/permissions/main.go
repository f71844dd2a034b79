// Command permissions shows how the author of a plugin tests what it may do. It
// prints the table of who may do what under policy.json, and a few refusals with
// their explanations; permissions_test.go has the tests.
//
//	go run ./examples/permissions
//
// The exit status is 0 if everything went as the policy says.
package main

import (
	"bufio"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/hub/hubtest"
	"github.com/plugbus/plugbus/security"
)

//go:embed policy.json
var policyFile []byte

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// permissions returns the table of who may do what.
func permissions(policy *security.Policy) *hubtest.Matrix {
	return hubtest.NewMatrix(policy).
		Add(plugbus.VerbEmit, "orders.placed", "orders.cancelled", "orders.refunded", "invoices.created", "invoices.cancelled").
		Add(plugbus.VerbSubscribe, "orders.*", "invoices.*", "plugin:registered")
}

func run(ctx context.Context, out io.Writer) (err error) {
	policy, err := security.Parse(policyFile, "policy.json")
	if err != nil {
		return err
	}
	h, err := hub.New(hub.Options{Policy: policy}) //nolint:contextcheck // A hub lives until Close, whatever becomes of a context.
	if err != nil {
		return err
	}
	defer func() {
		if report, e := h.Close(ctx); !report.Clean() || e != nil {
			err = errors.Join(err, e, fmt.Errorf("the hub did not close clean: %+v", report))
		}
	}()
	w := bufio.NewWriter(out) // It keeps its first error for Flush.
	defer func() { err = errors.Join(err, w.Flush()) }()

	var letters []Invoice
	mailer := hub.Func(hub.Manifest{ID: "mailer"}, func(_ context.Context, s *hub.Session) error {
		_, err := events.Subscribe(s, "invoices.created", func(_ context.Context, i Invoice, _ events.Event) error {
			letters = append(letters, i)
			return nil
		})
		return err
	})
	var shop *hub.Session
	seller := hub.Func(hub.Manifest{ID: "shop"}, func(_ context.Context, s *hub.Session) error {
		shop = s
		return nil
	})
	if err := h.Register(ctx, &Invoices{}, mailer, seller); err != nil {
		return err
	}

	fmt.Fprintf(w, "Who may do what:\n\n%v\n", permissions(policy))

	if _, err := shop.Emit(ctx, "orders.placed", Order{ID: "A17", Customer: "Ada", Cents: 4200}); err != nil {
		return err
	}
	if err := h.Idle(ctx); err != nil {
		return err
	}
	if len(letters) != 1 {
		return fmt.Errorf("got %d letters for one order, want 1", len(letters))
	}
	fmt.Fprintf(w, "What is allowed: the shop places an order, and the mailer gets invoice %d for %s over %d cents.\n",
		letters[0].Number, letters[0].Customer, letters[0].Cents)

	fmt.Fprintf(w, "\nWhat the shop may not do. It gets the reason, and the host an explanation:\n")
	for _, try := range []struct {
		name string
		data any
		want plugbus.Reason
	}{
		{"invoices.created", Invoice{Number: 2, Customer: "Bob", Cents: 99_900}, plugbus.ReasonInsufficientPermissions},
		{"orders.refunded", Order{ID: "A17", Cents: 4200}, plugbus.ReasonDeniedByRule},
		{"orders.placed", Order{ID: "A18", Customer: "<script>steal()</script>"}, plugbus.ReasonInvalidContent},
	} {
		_, err := shop.Emit(ctx, try.name, try.data)
		denied, ok := errors.AsType[*plugbus.DeniedError](err)
		if !ok || denied.Reason != try.want {
			return errors.Join(fmt.Errorf("the shop emits %q, which should be denied: %s", try.name, try.want), err)
		}
		entry, ok := h.Audit().Get(denied.Record)
		if !ok {
			return fmt.Errorf("the refusal of %q is not in the audit log", try.name)
		}
		fmt.Fprintf(w, "\n%v\n", denied)
		for _, d := range entry.Details {
			if d.Key == "rule" || d.Key == "remedy" {
				fmt.Fprintf(w, "  %-6s  %s\n", d.Key, d.Value)
			}
		}
	}
	return nil
}
