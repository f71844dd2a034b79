package store

// Lists says for the host what the lists of a store say to an act of a plugin: the rule
// that refuses it, "" if they allow it, and what would change that.
func (db *DB) Lists(id, name string, right Rights) (rule, remedy string) {
	s := db.space(name)
	if s == nil {
		return noStore(name)
	}
	return s.acl.Load().refuses(id, name, right)
}
