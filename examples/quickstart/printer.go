package main

import (
	"context"

	"github.com/plugbus/plugbus"
	"github.com/plugbus/plugbus/hub"
	"github.com/plugbus/plugbus/router"
)

// A printer prints one job at a time. It can be slow, empty, and jammed.
type printer struct {
	warming chan struct{} // tells that the printer warms up
	warm    chan struct{} // closed when it is warm
	mended  chan struct{} // closed when somebody has mended it
	empty   bool
	printed []string
}

func (p *printer) Manifest() hub.Manifest {
	return hub.Manifest{ID: "printer", Version: "1.0.0"}
}

func (p *printer) Start(_ context.Context, hub *hub.Session) error {
	for typ, handler := range map[string]router.Handler{
		"print.warm-up": p.warmUp,
		"print.empty":   p.setEmpty,
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
	_, err := hub.HandleTopic("news.*", p.news)
	return err
}

func (p *printer) print(_ context.Context, text string) (pages int, err error) {
	if p.empty {
		return 0, &plugbus.RemoteError{Code: plugbus.CodeExhausted, Message: "out of paper", Retryable: true}
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

func (p *printer) setEmpty(_ context.Context, m router.Message) (any, error) {
	empty, err := router.Decode[bool](m)
	if err == nil {
		p.empty = empty
	}
	return nil, err
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
