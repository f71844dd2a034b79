package store_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/plugbus/plugbus/store"
)

// A plugin makes a store, and lets another one read it.
func Example() {
	ctx := context.Background()
	db, _ := store.Open(store.Options{}) // In memory.
	defer func() { _ = db.Close(ctx) }()
	indexer, _ := db.Client("indexer", store.ClientOptions{})
	reader, _ := db.Client("reader", store.ClientOptions{})

	words, _ := indexer.Create(ctx, "words", store.Config{Read: []string{"reader"}})
	_, _ = words.Set(ctx, "plug", []byte("7"))

	view, _ := reader.Open(ctx, "words")
	entry, _ := view.Get(ctx, "plug")
	fmt.Println(entry.Text(), entry.Revision(), entry.Writer())
	_, err := view.Set(ctx, "plug", []byte("8"))
	fmt.Println(err)
	// Output:
	// 7 1 indexer
	// plugin "reader" may not write to "words": insufficient_permissions
}

// Two keys change together, and only if nobody has changed what was read.
func ExampleView_Txn() {
	ctx := context.Background()
	db, _ := store.Open(store.Options{})
	defer func() { _ = db.Close(ctx) }()
	bank, _ := db.Client("bank", store.ClientOptions{})
	view, _ := bank.Create(ctx, "accounts", store.Config{})
	_, _ = view.Set(ctx, "ann", []byte("all"))

	err := view.Txn(ctx, func(tx *store.Tx) error {
		of, err := tx.Get("ann")
		if err != nil {
			return err
		}
		return errors.Join(tx.Delete("ann"), tx.Set("bob", of.Value()))
	}, store.Attempts(10))
	fmt.Println(err)
	for entry, err := range view.Entries(ctx, store.All()) {
		fmt.Println(entry.Key(), entry.Text(), err)
	}
	// Output:
	// <nil>
	// bob all <nil>
}

// The last word is not always the best: Update finds out that another was faster.
func ExampleView_Update() {
	ctx := context.Background()
	db, _ := store.Open(store.Options{})
	defer func() { _ = db.Close(ctx) }()
	editor, _ := db.Client("editor", store.ClientOptions{})
	view, _ := editor.Create(ctx, "pages", store.Config{})

	first, _ := view.Create(ctx, "home", []byte("hello"))
	_, _ = view.Set(ctx, "home", []byte("hello, world"))
	_, err := view.Update(ctx, "home", []byte("goodbye"), first.Revision())
	conflict, _ := errors.AsType[*store.ConflictError](err)
	fmt.Println(conflict)
	// Output:
	// conflict on key "home" of store "pages": revision 1 was expected, but it is 2; read it again and decide anew
}

// Pages of keys that a pattern matches, in their order.
func ExampleSelection() {
	ctx := context.Background()
	db, _ := store.Open(store.Options{})
	defer func() { _ = db.Close(ctx) }()
	crawler, _ := db.Client("crawler", store.ClientOptions{})
	view, _ := crawler.Create(ctx, "files", store.Config{})
	for _, key := range []string{"doc/b", "doc/a", "doc/old/c", "src/a"} {
		_, _ = view.Set(ctx, key, nil)
	}
	for key, err := range view.Keys(ctx, store.Match("doc/*")) {
		fmt.Println(key, err)
	}
	for key, err := range view.Keys(ctx, store.All().After("doc/b")) {
		fmt.Println("after:", key, err)
	}
	// Output:
	// doc/a <nil>
	// doc/b <nil>
	// after: doc/old/c <nil>
	// after: src/a <nil>
}

// Values of a type, as JSON in the store.
func ExampleTyped() {
	type page struct {
		Title string `json:"title"`
		Views int    `json:"views"`
	}
	ctx := context.Background()
	db, _ := store.Open(store.Options{})
	defer func() { _ = db.Close(ctx) }()
	web, _ := db.Client("web", store.ClientOptions{})
	view, _ := web.Create(ctx, "pages", store.Config{})
	pages := store.Typed[page](view)

	_, _ = pages.Set(ctx, "home", page{Title: "Home"})
	for range 3 {
		_, _ = pages.Modify(ctx, "home", func(p page) (page, error) { p.Views++; return p, nil })
	}
	home, entry, _ := pages.Get(ctx, "home")
	fmt.Println(home.Title, home.Views)
	fmt.Println(entry.Text())
	// Output:
	// Home 3
	// {"title":"Home","views":3}
}
