package store

// A TypedTx is a [Tx] for values of one type.
type TypedTx[T any] struct {
	tx    *Tx
	typed TypedView[T]
}

// In returns a transaction of the view's store, for values of type T.
func (t TypedView[T]) In(tx *Tx) TypedTx[T] { return TypedTx[T]{tx, t} }

// ours returns an error if the transaction is one of another store.
func (t TypedTx[T]) ours(act, key string) error {
	if of := t.tx.view.space.name; t.tx.view.space != t.typed.view.space {
		return t.typed.view.keyed(act, key, newOptionError("the transaction", "one of store "+of, "one of the view's store"))
	}
	return nil
}

// Get returns the value of a key, and its entry. See [Tx.Get].
func (t TypedTx[T]) Get(key string) (T, Entry, error) {
	var none T
	if err := t.ours("get in a transaction", key); err != nil {
		return none, Entry{}, err
	}
	e, err := t.tx.Get(key)
	if err != nil {
		return none, e, err
	}
	value, err := t.typed.Decode(e)
	return value, e, err
}

// Entries returns the selected keys with their values. See [Tx.Entries].
func (t TypedTx[T]) Entries(sel Selection) ([]TypedEntry[T], error) {
	if err := t.ours("list in a transaction", sel.prefix); err != nil {
		return nil, err
	}
	entries, err := t.tx.Entries(sel)
	if err != nil {
		return nil, err
	}
	all := make([]TypedEntry[T], len(entries))
	for i, e := range entries {
		all[i].Entry = e
		if all[i].Value, err = t.typed.Decode(e); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Set makes value what the key has. See [Tx.Set].
func (t TypedTx[T]) Set(key string, value T, options ...SetOption) error {
	const act = "set in a transaction"
	if err := t.ours(act, key); err != nil {
		return err
	}
	data, err := t.typed.encode(act, key, value)
	if err != nil {
		return err
	}
	return t.tx.Set(key, data, options...)
}

// Delete takes the entry of a key away. See [Tx.Delete].
func (t TypedTx[T]) Delete(key string) error {
	if err := t.ours("delete in a transaction", key); err != nil {
		return err
	}
	return t.tx.Delete(key)
}
