package plugbus

import "github.com/plugbus/plugbus/internal/chain"

// A Chain is the line of plugins that led to an act: the first acted by itself,
// and each next one acted while it handled what the one before it had done. The
// zero Chain is empty. Only the bus makes chains, so a plugin cannot forge one: it
// can only present one that it was given, and only where that makes an act deeper.
//
// A handler's context carries its chain. An act that is given this context, or
// one derived from it, continues the chain; an act that is given another
// context while its plugin is handling something continues the deepest chain
// that the plugin is handling.
type Chain = chain.Chain
