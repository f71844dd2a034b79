package main

import (
	"context"

	"github.com/plugbus/plugbus/events"
	"github.com/plugbus/plugbus/hub"
)

// An Order is the payload of "orders.placed" and "orders.cancelled".
type Order struct {
	ID       string
	Customer string
	Cents    int64
}

// An Invoice is the payload of "invoices.created" and "invoices.cancelled".
type Invoice struct {
	Number   int
	Order    string
	Customer string
	Cents    int64
}

// Invoices is the plugin whose permissions this example is about. It makes an
// invoice of each order, and takes it back when the order is cancelled. Its
// handlers run one at a time, so it needs no lock.
type Invoices struct {
	hub  *hub.Session
	made map[string]Invoice // by order
}

// Manifest implements [hub.Plugin].
func (p *Invoices) Manifest() hub.Manifest { return hub.Manifest{ID: "invoices", Version: "1.0.0"} }

// Start implements [hub.Plugin].
func (p *Invoices) Start(_ context.Context, hub *hub.Session) error {
	p.hub, p.made = hub, map[string]Invoice{}
	_, err := events.Subscribe(hub, "orders.*", p.handle)
	return err
}

func (p *Invoices) handle(ctx context.Context, o Order, e events.Event) error {
	invoice, known := p.made[o.ID]
	switch {
	case e.Name() == "orders.placed" && !known:
		invoice = Invoice{Number: len(p.made) + 1, Order: o.ID, Customer: o.Customer, Cents: o.Cents}
		p.made[o.ID] = invoice
		_, err := p.hub.Emit(ctx, "invoices.created", invoice)
		return err
	case e.Name() == "orders.cancelled" && known:
		_, err := p.hub.Emit(ctx, "invoices.cancelled", invoice)
		return err
	}
	return nil
}
