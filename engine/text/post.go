package text

import "encoding/json"

// template puts special tokens around one sequence of ids, or two.
type template struct{ single, pair []templatePiece }

// templatePiece is special tokens, or where sequence A or B stands.
type templatePiece struct {
	sequence byte // 'A', 'B' or 0
	ids      []int32
	kind     int32 // of a pair: 0 for what belongs to the first sequence, 1 for the second
}

func (t template) apply(ids []int32) []int32 {
	out := make([]int32, 0, len(ids)+len(t.single))
	for _, piece := range t.single {
		if piece.sequence != 0 {
			piece.ids = ids
		}
		out = append(out, piece.ids...)
	}
	return out
}

func (t template) applyPair(a, b []int32) (ids, kinds []int32) {
	for _, piece := range t.pair {
		switch piece.sequence {
		case 'A':
			piece.ids = a
		case 'B':
			piece.ids = b
		}
		ids = append(ids, piece.ids...)
		for range piece.ids {
			kinds = append(kinds, piece.kind)
		}
	}
	return ids, kinds
}

// EncodePair returns the ids of two texts that are read together, such as a question
// and a passage, with what the post-processor puts around and between them, and for
// each token its kind: 0 for the first text, 1 for the second.
func (t *Tokenizer) EncodePair(a, b string) (ids, kinds []int32) {
	p := template{pair: []templatePiece{{sequence: 'A'}, {sequence: 'B', kind: 1}}}
	rest := t.post
	if len(rest) > 0 {
		p, rest = rest[0], rest[1:]
	}
	ids, kinds = p.applyPair(t.EncodeOrdinary(a), t.EncodeOrdinary(b))
	for _, p := range rest {
		before := len(ids)
		ids = p.apply(ids)
		kinds = append(kinds, make([]int32, max(0, len(ids)-before))...)
	}
	return ids, kinds
}

var postNames = []string{"BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"}

// parsePost returns the stages of a post-processor that add tokens.
func parsePost(raw json.RawMessage, depth int) ([]template, error) {
	var c struct {
		Type       string            `json:"type"`
		Processors []json.RawMessage `json:"processors"`
		Single     []pieceConfig     `json:"single"`
		Pair       []pieceConfig     `json:"pair"`
		Special    specialIDs        `json:"special_tokens"`
		CLS        pairedToken       `json:"cls"`
		SEP        pairedToken       `json:"sep"`
	}
	if isNull(raw) {
		return nil, nil
	}
	if err := unmarshal("post_processor", raw, &c, depth); err != nil {
		return nil, err
	}
	a, b := templatePiece{sequence: 'A'}, templatePiece{sequence: 'B'}
	cls, sep := templatePiece{ids: []int32{c.CLS.id}}, templatePiece{ids: []int32{c.SEP.id}}
	switch c.Type {
	case "Sequence":
		return parseAll(c.Processors, depth, parsePost)
	case "ByteLevel": // moves offsets only
		return nil, nil
	case "BertProcessing":
		b.kind = 1
		last := templatePiece{ids: sep.ids, kind: 1}
		return []template{{single: []templatePiece{cls, a, sep}, pair: []templatePiece{cls, a, sep, b, last}}}, nil
	case "RobertaProcessing":
		return []template{{single: []templatePiece{cls, a, sep}, pair: []templatePiece{cls, a, sep, sep, b, sep}}}, nil
	case "TemplateProcessing":
		single, err := c.Special.pieces("single", c.Single)
		if err != nil {
			return nil, err
		}
		pair, err := c.Special.pieces("pair", c.Pair)
		if err != nil {
			return nil, err
		}
		return []template{{single, pair}}, nil
	}
	return nil, unknown("post_processor", c.Type, postNames)
}

// pieceConfig is {"SpecialToken": {…}} or {"Sequence": {…}}.
type pieceConfig struct {
	SpecialToken, Sequence *struct {
		ID   string `json:"id"`
		Kind int32  `json:"type_id"`
	}
}

// specialIDs is the special tokens of a TemplateProcessing by name.
type specialIDs map[string]struct {
	IDs []int32 `json:"ids"`
}

func (s specialIDs) pieces(list string, config []pieceConfig) ([]templatePiece, error) {
	var pieces []templatePiece
	for i, c := range config {
		switch {
		case c.SpecialToken != nil:
			token, ok := s[c.SpecialToken.ID]
			if !ok || len(token.IDs) == 0 {
				return nil, malformed("post_processor: TemplateProcessing: %q has no ids in special_tokens", c.SpecialToken.ID)
			}
			pieces = append(pieces, templatePiece{ids: token.IDs, kind: c.SpecialToken.Kind})
		case c.Sequence != nil && (c.Sequence.ID == "A" || c.Sequence.ID == "B" && list == "pair"):
			pieces = append(pieces, templatePiece{sequence: c.Sequence.ID[0], kind: c.Sequence.Kind})
		default:
			return nil, malformed("post_processor: TemplateProcessing: piece %d of %s is neither a special token nor a sequence that it has", i, list)
		}
	}
	return pieces, nil
}

// pairedToken is ["token", id].
type pairedToken struct{ id int32 }

// UnmarshalJSON implements json.Unmarshaler.
func (p *pairedToken) UnmarshalJSON(raw []byte) error {
	var token string
	return json.Unmarshal(raw, &[]any{&token, &p.id})
}
