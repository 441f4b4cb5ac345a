package text

import (
	"maps"
	"slices"
)

// trie holds tokens by their bytes. The children of a node stand one after another,
// in the order of their bytes.
type trie struct {
	first []int32 // by node: its first child; one entry more than nodes
	label []byte  // by node: the byte that leads to it
	value []int32 // by node: the id of the token that ends there, −1 for none
	root  [256]int32
}

// newTrie builds a trie level by level. The empty token is left out.
func newTrie(ids vocabulary) trie {
	tokens := slices.Sorted(maps.Keys(ids))
	type group struct{ lo, hi, depth int } // tokens[lo:hi] share depth bytes
	t := trie{label: []byte{0}, value: []int32{-1}}
	queue := []group{{0, len(tokens), 0}}
	for node := 0; node < len(queue); node++ {
		g := queue[node]
		t.first = append(t.first, int32(len(queue)))
		for lo := g.lo; lo < g.hi; {
			if len(tokens[lo]) == g.depth {
				if g.depth > 0 {
					t.value[node] = ids[tokens[lo]]
				}
				lo++
				continue
			}
			b, hi := tokens[lo][g.depth], lo
			for hi < g.hi && tokens[hi][g.depth] == b {
				hi++
			}
			queue = append(queue, group{lo, hi, g.depth + 1})
			t.label = append(t.label, b)
			t.value = append(t.value, -1)
			lo = hi
		}
	}
	t.first = append(t.first, int32(len(queue)))
	for b := range t.root {
		t.root[b] = t.find(0, byte(b))
	}
	return t
}

// child returns the node that b leads to from node, −1 if there is none.
func (t *trie) child(node int32, b byte) int32 {
	if node == 0 {
		return t.root[b]
	}
	return t.find(node, b)
}

func (t *trie) find(node int32, b byte) int32 {
	lo, hi := t.first[node], t.first[node+1]
	for hi-lo > 8 {
		mid := int32(uint32(lo+hi) / 2)
		if t.label[mid] <= b {
			lo = mid
		} else {
			hi = mid
		}
	}
	for ; lo < hi; lo++ {
		if t.label[lo] == b {
			return lo
		}
	}
	return -1
}
