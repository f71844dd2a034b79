package router_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/router"
)

// A plugin asks another, and waits for the reply.
func Example() {
	ctx := context.Background()
	r, _ := router.New(router.Options{})
	indexer, _ := r.Client("indexer", router.ClientOptions{})
	reader, _ := r.Client("reader", router.ClientOptions{})

	_, _ = indexer.Handle("count", func(_ context.Context, m router.Message) (any, error) {
		text, ok := m.Data().(string)
		if !ok {
			return nil, &plugbus.RemoteError{Code: plugbus.CodeInvalid, Message: "expected a text"}
		}
		return len(strings.Fields(text)), nil
	})
	reply, err := reader.Send(ctx, "indexer", "count", "to be or not to be")
	fmt.Println(reply.From(), "says", reply.Data(), err)

	_, err = reader.Send(ctx, "indexer", "count", 6)
	remote, _ := errors.AsType[*plugbus.RemoteError](err)
	fmt.Println(remote.Code, "-", remote.Message)

	_, err = reader.Send(ctx, "indexer", "weigh", "to be")
	fmt.Println(errors.Is(err, router.ErrNoHandler))

	_ = r.Close(ctx)
	// Output:
	// indexer says 6 <nil>
	// invalid - expected a text
	// true
}

// A stream gives its replies one by one, for as long as somebody reads.
func ExampleClient_Stream() {
	ctx := context.Background()
	r, _ := router.New(router.Options{})
	search, _ := r.Client("search", router.ClientOptions{})
	reader, _ := r.Client("reader", router.ClientOptions{})

	_, _ = search.HandleStream("find", func(_ context.Context, m router.Message, yield func(any) bool) error {
		for n := 1; ; n++ {
			if !yield(fmt.Sprintf("%v, page %d", m.Data(), n)) {
				return nil // Nobody reads any more.
			}
		}
	})
	for chunk, err := range reader.Stream(ctx, "search", "find", "Hamlet") {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Println(chunk.Data())
		if chunk.Index() == 2 {
			break
		}
	}
	_ = r.Close(ctx)
	// Output:
	// Hamlet, page 1
	// Hamlet, page 2
	// Hamlet, page 3
}

// A publication reaches every handler of its topic, and the receipt says who had
// room for it.
func ExampleClient_Publish() {
	ctx := context.Background()
	r, _ := router.New(router.Options{})
	press, _ := r.Client("press", router.ClientOptions{})
	archive, _ := r.Client("archive", router.ClientOptions{})

	_, _ = archive.HandleTopic("news.*", func(_ context.Context, m router.Message) error {
		fmt.Println(m.Type(), "for", m.Pattern(), "-", m.Data())
		return nil
	})
	_, _ = archive.HandleTopic("news.sport", func(_ context.Context, m router.Message) error {
		fmt.Println(m.Type(), "for", m.Pattern(), "-", m.Data())
		return nil
	})
	for _, topic := range []string{"news.sport", "news.art", "weather"} {
		receipt, err := press.Publish(ctx, topic, "extra")
		_ = r.Idle(ctx)
		fmt.Println(topic, "accepted:", receipt.Accepted, "of", receipt.Matched, err)
	}
	_ = r.Close(ctx)
	// Output:
	// news.sport for news.* - extra
	// news.sport for news.sport - extra
	// news.sport accepted: 2 of 2 <nil>
	// news.art for news.* - extra
	// news.art accepted: 1 of 1 <nil>
	// weather accepted: 0 of 0 <nil>
}

// What is urgent overtakes what waits. To be urgent needs a grant, where there is
// a policy.
func ExamplePriority() {
	ctx := context.Background()
	r, _ := router.New(router.Options{})
	printer, _ := r.Client("printer", router.ClientOptions{})
	office, _ := r.Client("office", router.ClientOptions{})

	started, goOn := make(chan bool), make(chan bool)
	_, _ = printer.Handle("warm.up", func(context.Context, router.Message) (any, error) {
		started <- true
		<-goOn
		return nil, nil
	})
	_, _ = printer.Handle("print", func(_ context.Context, m router.Message) (any, error) {
		fmt.Println(m.Priority(), m.Data())
		return nil, nil
	})
	_ = office.Post(ctx, "printer", "warm.up", nil)
	<-started
	_ = office.Post(ctx, "printer", "print", "brochure", router.Priority(plugbus.PriorityLow))
	_ = office.Post(ctx, "printer", "print", "letter")
	_ = office.Post(ctx, "printer", "print", "fire alarm", router.Priority(plugbus.PriorityHigh))
	close(goOn)

	_ = r.Close(ctx) // It delivers what waits.
	// Output:
	// high fire alarm
	// normal letter
	// low brochure
}

// Middleware sees the messages on their way to the door, and may change them or
// not let them through.
func ExampleRouter_Use() {
	ctx := context.Background()
	r, _ := router.New(router.Options{})
	desk, _ := r.Client("desk", router.ClientOptions{})
	guest, _ := r.Client("guest", router.ClientOptions{})
	_, _ = desk.Handle("ask", func(_ context.Context, m router.Message) (any, error) {
		return fmt.Sprintf("%v? (%s)", m.Data(), m.Header("lang")), nil
	})

	_ = r.Use("opening.hours", func(next router.Deliver) router.Deliver {
		return func(ctx context.Context, m *router.Draft) (router.Response, error) {
			if m.Data == "at midnight" {
				return router.Response{}, errors.New("we are closed")
			}
			return next(ctx, m)
		}
	}, router.ForTarget("desk"))
	_ = r.Use("language", func(next router.Deliver) router.Deliver {
		return func(ctx context.Context, m *router.Draft) (router.Response, error) {
			m.Headers = map[string]string{"lang": "en"}
			return next(ctx, m)
		}
	})
	for _, text := range []string{"at noon", "at midnight"} {
		reply, err := guest.Send(ctx, "desk", "ask", text)
		if denied, ok := errors.AsType[*plugbus.DeniedError](err); ok {
			fmt.Println(denied.Reason, "-", denied.Cause)
			continue
		}
		fmt.Println(reply.Data())
	}
	fmt.Println(r.Middleware())
	_ = r.Close(ctx)
	// Output:
	// at noon? (en)
	// middleware - the middleware "opening.hours": we are closed
	// [{opening.hours desk} {language }]
}

// A message that was not accepted, or whose handler says that it may, is tried
// again.
func ExampleRetry() {
	ctx := context.Background()
	r, _ := router.New(router.Options{})
	bank, _ := r.Client("bank", router.ClientOptions{})
	shop, _ := r.Client("shop", router.ClientOptions{})
	calls := 0
	_, _ = bank.Handle("pay", func(context.Context, router.Message) (any, error) {
		if calls++; calls < 3 {
			return nil, &plugbus.RemoteError{Code: plugbus.CodeUnavailable, Message: "busy", Retryable: true}
		}
		return "paid", nil
	})
	_ = r.Use("retry", router.Retry(router.RetryOptions{Attempts: 5, Base: time.Millisecond}))
	reply, err := shop.Send(ctx, "bank", "pay", 12)
	fmt.Println(reply.Data(), err, "after", calls, "calls")
	_ = r.Close(ctx)
	// Output:
	// paid <nil> after 3 calls
}

// A sender that does not know whether its message arrived sends it again, with
// the same id.
func ExampleDeduplicate() {
	ctx := context.Background()
	r, _ := router.New(router.Options{})
	bank, _ := r.Client("bank", router.ClientOptions{})
	shop, _ := r.Client("shop", router.ClientOptions{})
	_, _ = bank.Handle("pay", func(_ context.Context, m router.Message) (any, error) {
		fmt.Println("paid", m.Data(), "for", m.ClientID())
		return nil, nil
	})
	_ = r.Use("once", router.Deduplicate(router.DeduplicateOptions{Window: time.Hour}))
	for range 2 {
		_, err := shop.Send(ctx, "bank", "pay", 12, router.ClientID("order 7"))
		fmt.Println("duplicate:", errors.Is(err, router.ErrDuplicate))
	}
	_ = r.Close(ctx)
	// Output:
	// paid 12 for order 7
	// duplicate: false
	// duplicate: true
}

// Messages of some types have to satisfy a schema.
func ExampleValidate() {
	ctx := context.Background()
	r, _ := router.New(router.Options{})
	bank, _ := r.Client("bank", router.ClientOptions{})
	shop, _ := r.Client("shop", router.ClientOptions{})
	_, _ = bank.Handle("pay", func(context.Context, router.Message) (any, error) { return "paid", nil })

	schemas, _ := router.Validate(map[string]json.RawMessage{
		"pay": json.RawMessage(`{"type": "object", "required": ["amount"], "properties": {"amount": {"type": "integer", "minimum": 1}}}`),
	})
	_ = r.Use("schemas", schemas)
	for _, amount := range []int{12, -12} {
		reply, err := shop.Send(ctx, "bank", "pay", map[string]any{"amount": amount})
		if denied, ok := errors.AsType[*plugbus.DeniedError](err); ok {
			fmt.Println(denied.Cause)
			continue
		}
		fmt.Println(reply.Data())
	}
	_ = r.Close(ctx)
	// Output:
	// paid
	// the middleware "schemas": invalid value: at "/amount": minimum: got -12, want 1
}

// A post that was accepted and not handled is kept, until the host sends it again
// or discards it.
func ExampleRouter_DeadLetters() {
	ctx := context.Background()
	r, _ := router.New(router.Options{})
	printer, _ := r.Client("printer", router.ClientOptions{})
	office, _ := r.Client("office", router.ClientOptions{})
	paper := false
	_, _ = printer.Handle("print", func(_ context.Context, m router.Message) (any, error) {
		if !paper {
			return nil, errors.New("no paper")
		}
		fmt.Println("printed", m.Data())
		return nil, nil
	})
	_ = office.Post(ctx, "printer", "print", "letter")
	_ = r.Idle(ctx)
	for _, letter := range r.DeadLetters() {
		fmt.Println(letter.From(), "to", letter.To(), letter.Data(), "-", letter.Outcome, letter.Reason)
		paper = true
		_ = r.Resend(ctx, letter.Number)
	}
	_ = r.Close(ctx)
	fmt.Println("left:", len(r.DeadLetters()), "-", r.Ledger())
	// Output:
	// office to printer letter - failed no paper
	// printed letter
	// left: 0 - offered 2 = refused 0 + full 0 + accepted 2; accepted = handled 1 + failed 1
}

// Typed handlers and requests work with values, not with payloads.
func ExampleHandle() {
	type words struct{ Text string }
	type count struct{ Words, Letters int }

	ctx := context.Background()
	r, _ := router.New(router.Options{})
	indexer, _ := r.Client("indexer", router.ClientOptions{})
	reader, _ := r.Client("reader", router.ClientOptions{})

	_, _ = router.Handle(indexer, "count", func(_ context.Context, w words) (count, error) {
		return count{len(strings.Fields(w.Text)), len(w.Text)}, nil
	})
	fmt.Println(router.Send[count](ctx, reader, "indexer", "count", words{"to be"}))
	fmt.Println(router.Send[count](ctx, reader, "indexer", "count", json.RawMessage(`{"Text": "or not to be"}`)))

	_, err := router.Send[string](ctx, reader, "indexer", "count", words{"to be"})
	fmt.Println(err)
	_ = r.Close(ctx)
	// Output:
	// {2 5} <nil>
	// {4 12} <nil>
	// the reply of "indexer" to "count" carries a router_test.count, but a string was asked for
}

// The chunks of a stream have a type too.
func ExampleStream() {
	ctx := context.Background()
	r, _ := router.New(router.Options{})
	clock, _ := r.Client("clock", router.ClientOptions{})
	reader, _ := r.Client("reader", router.ClientOptions{})
	_, _ = clock.HandleStream("countdown", func(_ context.Context, m router.Message, yield func(any) bool) error {
		from, err := router.Decode[int](m)
		for n := from; n > 0 && yield(n); n-- {
		}
		return err
	})
	sum := 0
	for n, err := range router.Stream[int](ctx, reader, "clock", "countdown", 4) {
		if err != nil {
			fmt.Println(err)
			break
		}
		sum += n
	}
	fmt.Println(sum)
	_ = r.Close(ctx)
	// Output:
	// 10
}
