package text

import "encoding/json"

// template puts special tokens around ids: pieces in order, nil for the ids.
type template [][]int32

func (t template) apply(ids []int32) []int32 {
	out := make([]int32, 0, len(ids)+len(t))
	for _, piece := range t {
		if piece == nil {
			piece = ids
		}
		out = append(out, piece...)
	}
	return out
}

var postNames = []string{"BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"}

// parsePost returns the stages of a post-processor that add tokens.
func parsePost(raw json.RawMessage, depth int) ([]template, error) {
	var c struct {
		Type       string            `json:"type"`
		Processors []json.RawMessage `json:"processors"`
		Single     []struct {
			SpecialToken *struct{ ID string }
			Sequence     *struct{ ID string }
		} `json:"single"`
		SpecialTokens map[string]struct {
			IDs []int32 `json:"ids"`
		} `json:"special_tokens"`
		CLS pairedToken `json:"cls"`
		SEP pairedToken `json:"sep"`
	}
	if isNull(raw) {
		return nil, nil
	}
	if err := unmarshal("post_processor", raw, &c, depth); err != nil {
		return nil, err
	}
	switch c.Type {
	case "Sequence":
		return parseAll(c.Processors, depth, parsePost)
	case "ByteLevel": // moves offsets only
		return nil, nil
	case "BertProcessing", "RobertaProcessing":
		return []template{{{c.CLS.id}, nil, {c.SEP.id}}}, nil
	case "TemplateProcessing":
		var t template
		for i, piece := range c.Single {
			switch {
			case piece.SpecialToken != nil:
				token, ok := c.SpecialTokens[piece.SpecialToken.ID]
				if !ok || len(token.IDs) == 0 {
					return nil, malformed("post_processor: TemplateProcessing: %q has no ids in special_tokens", piece.SpecialToken.ID)
				}
				t = append(t, token.IDs)
			case piece.Sequence != nil && piece.Sequence.ID == "A":
				t = append(t, nil)
			default:
				return nil, malformed("post_processor: TemplateProcessing: piece %d of single is neither a special token nor sequence A", i)
			}
		}
		return []template{t}, nil
	}
	return nil, unknown("post_processor", c.Type, postNames)
}

// pairedToken is ["token", id].
type pairedToken struct{ id int32 }

// UnmarshalJSON implements json.Unmarshaler.
func (p *pairedToken) UnmarshalJSON(raw []byte) error {
	var token string
	return json.Unmarshal(raw, &[]any{&token, &p.id})
}
