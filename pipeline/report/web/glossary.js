// What the words of the pages mean; nabla_core/README.md has the exact definitions.

const MEANING_OF = {
  accuracy: "share of the graded rows whose answer the verifier called right",
  reward: "the judge's score of a whole response; only differences between rewards of one judge have a meaning",
  "first and last response": "what the LM answered at first, and what the revisions made of it",
  revision: "a proposal to replace one token of the response; a new ending is written behind it, and it is accepted if the reward rises",
  gain: "reward of the last response minus that of the first",
  position: "number of a token in the response, from 0",
  advantage: "how much the guide expected the replacement to raise the reward",
  confidence: "probability of the LM's most likely token at this position, from 0 to 1",
  "gradient norm": "size of the guide's predictions at this position, over all tokens",
  "log-probability": "how likely the LM finds a token, in nats: 0 is certain, -0.7 one in two, -4.6 one in a hundred",
  "FLOP": "an operation of the models' arithmetic, which measures cost without depending on the machine; MFLOP and GFLOP are millions and billions",
  "seconds of the engines": "the share of a row in the time that the models computed; rows are computed in batches",
  "cut by length": "responses that reached the limit of tokens before they ended",
  "dead letter": "a row that could not be made, with the error",
  "95 % interval": "where the mean over other such prompts lies in 95 of 100 cases",
  "token passes": "tokens that went through a model, forward or backward",
  "calls as the paper counts them": "1 for a sampled token, 4 for a sweep of gradients, 2 for an acceptance test",
};

function glossary(names) {
  return h("details", { class: "glossary" }, h("summary", {}, "What these words mean"),
    h("dl", {}, names.map((name) => [h("dt", {}, name), h("dd", {}, MEANING_OF[name])])));
}
