def names(): return ()
