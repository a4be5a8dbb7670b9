"""Who will be hurt, before anything is broken: the fate model asked of every proxy, node and zone of a placement at
once.

`world` is what is asked (from a cluster, `live`; from saved objects, `saved`), `predicting` the answer, pure; `text`,
`document` and `page` say it. The model is `chaos.model.fate`, by which the suite judges: there is no second one.
"""
