package main

import (
	"cmp"
	"context"
	"errors"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
	"github.com/plugbus/plugbus/store"
)

// A printer prints one job at a time. It can be slow, empty, and jammed. Its paper
// is in a store: how many sheets there are in the "tray" and on the "shelf".
type printer struct {
	version string // "" is 1.0.0
	broken  bool   // it does not start
	paper   store.TypedView[int]
	warming chan struct{} // tells that the printer warms up
	warm    chan struct{} // closed when it is warm
	mended  chan struct{} // closed when somebody has mended it
	printed []string
}

func (p *printer) Manifest() hub.Manifest {
	return hub.Manifest{ID: "printer", Version: cmp.Or(p.version, "1.0.0")}
}

func (p *printer) Start(ctx context.Context, hub *hub.Session) error {
	if p.broken {
		return errors.New("there is no toner in it")
	}
	paper, err := hub.EnsureStore(ctx, "paper", store.Config{
		Read:   []string{"student", "guest"},
		Write:  []string{"student"},
		Schema: []byte(`{ "type": "integer", "minimum": 0 }`),
	})
	if err != nil {
		return err
	}
	p.paper = store.Typed[int](paper)
	for place, sheets := range map[string]int{"tray": 20, "shelf": 500} {
		_, err := p.paper.Create(ctx, place, sheets)
		if err != nil && !errors.Is(err, store.ErrExists) { // A printer before this one may have left some.
			return err
		}
	}
	for typ, handler := range map[string]router.Handler{
		"print.warm-up": p.warmUp,
		"print.jam":     p.jam,
		"print.list":    p.list,
	} {
		if _, err := hub.Handle(typ, handler); err != nil {
			return err
		}
	}
	if _, err := router.Handle(hub, "print.text", p.print); err != nil {
		return err
	}
	_, err = hub.HandleTopic("news.*", p.news)
	return err
}

// print takes a sheet from the tray, if there is one.
func (p *printer) print(ctx context.Context, text string) (pages int, err error) {
	_, err = p.paper.Modify(ctx, "tray", func(sheets int) (int, error) {
		if sheets == 0 {
			return 0, &plugbus.RemoteError{Code: plugbus.CodeExhausted, Message: "out of paper", Retryable: true}
		}
		return sheets - 1, nil
	})
	if err != nil {
		return 0, err
	}
	p.printed = append(p.printed, text)
	return 1, nil
}

// list tells what was printed since it was asked last.
func (p *printer) list(context.Context, router.Message) (any, error) {
	printed := p.printed
	p.printed = nil
	return printed, nil
}

func (p *printer) news(ctx context.Context, m router.Message) error {
	text, err := router.Decode[string](m)
	if err != nil {
		return err
	}
	_, err = p.print(ctx, text)
	return err
}

// warmUp takes its time, but ends when nobody waits any more.
func (p *printer) warmUp(ctx context.Context, _ router.Message) (any, error) {
	p.warming <- struct{}{}
	select {
	case <-p.warm:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// jam does what a handler should not do: it waits, whatever its context says.
func (p *printer) jam(context.Context, router.Message) (any, error) {
	<-p.mended
	return "mended", nil
}
